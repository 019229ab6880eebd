"""The generated files are those the models give, and the schemas keep the promises of the API."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from headroom.api.base import VALIDATIONS
from headroom.api.crdgen import build_crd, build_files, find_drift, main
from headroom.api.kinds import KINDS, KindDefinition
from headroom.api.v1alpha1 import WorkerPoolSpec, parse_spec
from tests.admission.cases import load_bad_specs, load_changes, load_good, parse_body

ROOT = Path(__file__).parents[3]
FILES = build_files(ROOT / "crds", ROOT / "docs" / "reference")
BANNED = re.compile(r"\b(master|slave|replicaset/|replica set/)", re.IGNORECASE)
UNSUPPORTED_KEYWORDS = {"$ref", "$defs", "allOf", "oneOf", "not", "title", "const", "definitions", "nullable"}
ENTRY = re.compile(r"\[[0-9]+\]")
Schema = dict[str, Any]


def _root(kind: KindDefinition) -> Schema:
    schema: Schema = build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def _walk(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _walk(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _walk(schema[key], f"{path}[]")


NODES = [(kind.kind + path, schema) for kind in KINDS for path, schema in _walk(_root(kind))]
FIELDS = [
    (path, schema) for path, schema in NODES if not path.endswith("[]") and ".metadata" not in path.split("spec")[0]
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_checked_in_file_is_what_the_models_give(path: Path) -> None:
    assert find_drift({path: FILES[path]}) == [], "run `make crds`"


def test_the_check_fails_on_any_difference_and_writing_repairs_it(tmp_path: Path) -> None:
    arguments = ["--output", str(tmp_path / "crds"), "--docs", str(tmp_path / "docs")]
    assert main([*arguments, "--check"]) == 1
    assert main(arguments) == 0
    assert main([*arguments, "--check"]) == 0

    page = tmp_path / "docs" / "api.md"
    page.write_text(page.read_text() + " ")

    assert main([*arguments, "--check"]) == 1


def test_what_is_written_is_yaml_that_reads_back() -> None:
    for kind in KINDS:
        text = FILES[ROOT / "crds" / f"headroom.dev_{kind.plural}.yaml"]
        assert yaml.safe_load(text) == build_crd(kind)


def test_every_field_is_described() -> None:
    assert [path for path, schema in FIELDS if len(schema.get("description", "")) < 4] == []


def test_descriptions_are_sentences() -> None:
    assert [path for path, schema in FIELDS if schema["description"].rstrip()[-1:] not in ".)"] == [
        f"{kind.kind}.{name}" for kind in KINDS for name in ("apiVersion", "kind")
    ]


def test_every_text_list_and_map_is_bounded() -> None:
    assert [path for path, schema in NODES if _is_unbounded(schema)] == []


def test_every_number_of_a_spec_is_bounded_and_whole() -> None:
    numbers = [
        (path, schema) for path, schema in NODES if ".spec" in path and schema.get("type") in {"integer", "number"}
    ]

    assert numbers
    assert [path for path, schema in numbers if not {"minimum", "maximum"} <= schema.keys()] == []
    assert [path for path, schema in numbers if schema["type"] == "number"] == []


def test_schemas_are_structural() -> None:
    assert [path for path, schema in NODES if UNSUPPORTED_KEYWORDS & schema.keys()] == []
    assert [path for path, schema in NODES if "type" not in schema and "x-kubernetes-int-or-string" not in schema] == []


def test_lists_that_are_known_by_name_are_list_maps() -> None:
    maps = {path.rpartition(".")[2] for path, schema in NODES if schema.get("x-kubernetes-list-type") == "map"}

    assert {"signals", "schedules", "notify", "members", "conditions"} <= maps


def test_the_defaults_of_the_schema_are_those_of_the_models() -> None:
    for body in load_good():
        kind = next(kind for kind in KINDS if kind.kind == body["kind"])
        filled = {**body, "spec": _fill(_root(kind)["properties"]["spec"], body["spec"])}

        assert parse_body(filled) == parse_body(body)


def test_every_link_within_the_api_page_has_its_heading() -> None:
    page = FILES[ROOT / "docs" / "reference" / "api.md"]
    titles = re.findall("^#+ (.*)$", page, re.MULTILINE)
    headings = {re.sub("[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    links = set(re.findall(r"\(#([^)]*)\)", page))

    assert len(links) > 50
    assert links - headings == set()


def test_no_banned_word_is_in_any_text_a_user_sees() -> None:
    assert {path.name: BANNED.findall(text) for path, text in FILES.items() if BANNED.search(text)} == {}


def test_every_rule_is_proven_by_a_row_of_the_table() -> None:
    """All but those of single values ("write ..."), which tests/admission/test_every_field.py tries in every field."""
    rows = [*load_bad_specs(), *load_changes()]
    proven = [(f"{row.kind}.{ENTRY.sub('[]', row.field)}", row.says) for row in rows]
    declared = {
        (path + entry.get("fieldPath", ""), entry["message"])
        for path, schema in NODES
        for entry in schema.get(VALIDATIONS, [])
        if schema.get("type") != "string" or not entry["message"].startswith("write ")
    }

    assert len(declared) > 40
    assert [
        f"{field}: {message}"
        for field, message in sorted(declared)
        if not any(field == proven_field and says in message for proven_field, says in proven)
    ] == []


def test_explain_says_type_bounds_and_default() -> None:
    nodes = dict(NODES)

    assert nodes["ReplicaSet.spec.drain.timeout"]["description"].endswith("(duration; 0s to 1h; default 1m)")
    assert nodes["ReplicaSet.spec.replicas"]["description"].endswith("(≥ 0; ≤ 48; default 1)")
    assert nodes["ReplicaSet.spec.mode"]["description"].endswith("(default Active)")


def test_a_default_of_a_duration_is_written_as_a_user_writes_it() -> None:
    schema = dict(NODES)["WorkerPool.spec.objective.drainWithin"]

    assert schema["default"] == "5m"
    assert parse_spec(WorkerPoolSpec, load_good()[4]).objective.drain_within == timedelta(minutes=5)


def _is_unbounded(schema: Schema) -> bool:
    match schema.get("type"):
        case "string":
            return not {"maxLength", "enum"} & schema.keys() and schema.get("format") != "date-time"
        case "array":
            return "maxItems" not in schema
        case "object" if "additionalProperties" in schema:
            return "maxProperties" not in schema
        case _:
            return bool(schema.get("x-kubernetes-int-or-string")) and "maxLength" not in schema


def _fill(schema: Schema, value: Any) -> Any:
    """Fill in defaults as the API server does: the object's own default first, then those of its fields."""
    if isinstance(value, list):
        return [_fill(schema["items"], entry) for entry in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    fields = schema["properties"]
    given = {**{name: inner["default"] for name, inner in fields.items() if "default" in inner}, **value}
    return {name: _fill(fields[name], entry) for name, entry in given.items()}
