"""Writes the CustomResourceDefinitions and the reference pages from the typed models, or checks whether they differ.

Run as `python -m headroom.api.crdgen --output crds/ [--docs docs/reference/] [--check]`.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from headroom.api.base import CelRule, Json
from headroom.api.bounds import describe_schema
from headroom.api.kinds import KINDS, KindDefinition
from headroom.api.reference import build_api_page, build_reasons_page
from headroom.api.structural import build_schema
from headroom.api.v1alpha1.common import DNS_LABEL, GROUP, MAX_NAME, VERSION

HEADER = "# Generated from operator/headroom/api by `make crds`. Do not edit.\n"
WIDTH = 118


def build_crd(kind: KindDefinition) -> Json:
    """The CustomResourceDefinition of one kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "headroom"}},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short_name],
                "categories": ["headroom"],
            },
            "scope": "Namespaced",
            "versions": [_build_version(kind)],
        },
    }


def render(crd: Json) -> str:
    """The text of the file: one document, with keys in the order of the models."""
    return HEADER + yaml.dump(crd, sort_keys=False, width=WIDTH, Dumper=_Dumper, allow_unicode=True)


def build_files(output: Path, docs: Path) -> dict[Path, str]:
    """Every generated file with the text it must have."""
    crds = {output / f"{GROUP}_{kind.plural}.yaml": render(build_crd(kind)) for kind in KINDS}
    return {**crds, docs / "api.md": build_api_page(KINDS), docs / "reasons.md": build_reasons_page()}


def main(arguments: list[str] | None = None) -> int:
    """Write the files, or with `--check` list those that differ and return 1 if there are any."""
    parser = argparse.ArgumentParser(description="Generate CRDs and reference pages from the typed models.")
    parser.add_argument("--output", type=Path, required=True, help="folder of the CRDs")
    parser.add_argument("--docs", type=Path, default=Path("docs/reference"), help="folder of the reference pages")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    options = parser.parse_args(arguments)
    files = build_files(options.output, options.docs)
    if options.check:
        return _report(find_drift(files))
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def find_drift(files: Mapping[Path, str]) -> list[Path]:
    """Files that are missing or hold another text."""
    return [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def _report(drifted: list[Path]) -> int:
    for path in drifted:
        sys.stderr.write(f"{path} differs from the models: run `make crds`\n")
    return 1 if drifted else 0


def _build_version(kind: KindDefinition) -> Json:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.to_json() for column in kind.columns],
        "subresources": {"status": {}, **({"scale": kind.scale} if kind.scale else {})},
        "schema": {"openAPIV3Schema": _build_root(kind)},
    }


def _build_root(kind: KindDefinition) -> Json:
    name = CelRule(
        # A name cannot change: only a new object is refused for it.
        f"oldSelf.hasValue() || (size(self.metadata.name) <= {MAX_NAME} && self.metadata.name.matches('{DNS_LABEL}'))",
        f"choose a name of at most {MAX_NAME} lower-case letters, digits and '-': pods and slots are named after it",
        ".metadata.name",
    )
    return {
        "description": kind.description,
        "type": "object",
        "properties": {
            "apiVersion": {"description": f"{GROUP}/{VERSION}", "type": "string", "maxLength": 64},
            "kind": {"description": kind.kind, "type": "string", "maxLength": 64},
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 253}}},
            "spec": describe_schema(build_schema(kind.spec)),
            "status": build_schema(kind.status),
        },
        "required": ["spec"],
        "x-kubernetes-validations": [{**name.to_json(), "optionalOldSelf": True}],
    }


class _Dumper(yaml.SafeDumper):
    """Writes each occurrence of a value in full: an anchor would hide half of the schema from a reader."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


if __name__ == "__main__":
    sys.exit(main())
