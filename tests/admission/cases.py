"""The table of specs, good and bad, read from `cases/`; shared by the API server's test and the parser's."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headroom.api.base import SpecModel
from headroom.api.v1alpha1 import DatabaseGuardSpec, ReplicaSetSpec, WorkerPoolSpec, parse_spec

CASES = Path(__file__).parent / "cases"
API_VERSION = "headroom.dev/v1alpha1"
KINDS = {"WorkerPool": "workerpools", "ReplicaSet": "replicasets", "DatabaseGuard": "databaseguards"}
SPECS: dict[str, type[SpecModel]] = {
    "WorkerPool": WorkerPoolSpec,
    "ReplicaSet": ReplicaSetSpec,
    "DatabaseGuard": DatabaseGuardSpec,
}
Body = dict[str, Any]


@dataclass(frozen=True)
class BadSpec:
    """An object that must be refused with an error at `field` that contains `says`."""

    why: str
    kind: str
    body: Body
    field: str
    says: str
    only_server: bool = False


@dataclass(frozen=True)
class Change:
    """An update from `before` to `after`; refused at `field` with `says`, or accepted where there is no field."""

    why: str
    kind: str
    before: Body
    after: Body
    field: str = ""
    says: str = ""


def parse_body(body: Body) -> SpecModel:
    """The spec of an object of any of our kinds; raises InvalidSpec."""
    return parse_spec(SPECS[body["kind"]], body)


def load_bad_specs() -> list[BadSpec]:
    """Every row of every table."""
    return [_bad_spec(table, row) for table in _tables() for row in table["bad"]]


def load_changes(rows: str = "changes") -> list[Change]:
    """Updates that are refused, or with `allowed_changes` those that are accepted."""
    return [_change(table, row) for table in _tables() for row in table.get(rows, ())]


def load_good() -> list[Body]:
    """Whole objects that are accepted."""
    return list(yaml.safe_load_all((CASES / "good.yaml").read_text()))


def _tables() -> list[dict[str, Any]]:
    return [yaml.safe_load((CASES / f"{kind.lower()}.yaml").read_text()) for kind in KINDS]


def _bad_spec(table: dict[str, Any], row: dict[str, Any]) -> BadSpec:
    body = _body(table["kind"], row.get("name", "case"), table["base"], row)
    return BadSpec(row["why"], table["kind"], body, row["field"], row["says"], row.get("at") == "server")


def _change(table: dict[str, Any], row: dict[str, Any]) -> Change:
    before = _body(table["kind"], "case", table["base"], {"set": row.get("with", {})})
    after = _body(table["kind"], "case", before["spec"], row)
    return Change(row["why"], table["kind"], before, after, row.get("field", ""), row.get("says", ""))


def _body(kind: str, name: str, base: Body, row: dict[str, Any]) -> Body:
    spec = copy.deepcopy(base)
    for path, value in row.get("set", {}).items():
        parent, key = _find(spec, path)
        parent[key] = copy.deepcopy(value)
    for path in row.get("drop", ()):
        parent, key = _find(spec, path)
        del parent[key]
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _find(spec: Any, path: str) -> tuple[Any, Any]:
    *parents, last = path.split(".") if path.count("/") == 0 else [path]
    for part in parents:
        spec = spec[int(part)] if part.isdigit() else spec.setdefault(part, {})
    return spec, int(last) if last.isdigit() else last
