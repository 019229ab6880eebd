"""The first screen of `kubectl get`: columns that are filled, and that name the cause or the place of a trouble."""

import re
from typing import Any

import pytest

from headroom.api.crdgen import build_crd
from headroom.api.kinds import DATABASE_GUARD, KINDS, REPLICA_SET, WORKER_POOL, KindDefinition

FILTER = re.compile(r'(\w+)\[\?\(@\.(\w+)=="(\w+)"\)\]')


def show(kind: KindDefinition, item: dict[str, Any], *, is_wide: bool = False) -> dict[str, str]:
    """The line that kubectl prints for an object, by the header of its columns."""
    columns = [column for column in kind.columns if is_wide or not column.is_wide]
    return {column.name.upper(): _find(item, column.path) for column in columns}


def _find(item: Any, path: str) -> str:
    """What a path of a column leads to; empty for nothing, as kubectl prints it."""
    for part in re.findall(r"\w+(?:\[[^\]]*\])?", path):
        match = FILTER.fullmatch(part)
        name = match[1] if match else part
        item = item.get(name) if isinstance(item, dict) else None
        if match and item is not None:
            item = next((entry for entry in item if entry.get(match[2]) == match[3]), None)
    return "" if item is None else str(item)


def test_no_header_reads_as_a_plural_or_has_a_blank() -> None:
    for kind in KINDS:
        for column in kind.columns:
            assert re.fullmatch(r"[A-Za-z]+(-[A-Za-z]+)?", column.name), column.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.short_name)
def test_why_ready_is_false_is_beside_it(kind: KindDefinition) -> None:
    names = [column.name for column in kind.columns if not column.is_wide]
    assert names.index("Reason") == names.index("Ready") + 1


def test_what_nothing_fills_is_not_shown() -> None:
    names = {column.name for kind in KINDS for column in kind.columns}
    assert not names & {"Pin", "Snapshot(s)"}


def test_failed_jobs_are_a_column_of_the_wide_screen() -> None:
    pool = {"status": {"queue": {"failed": 300}}}
    assert show(WORKER_POOL, pool, is_wide=True)["FAILED"] == "300"
    assert "FAILED" not in show(WORKER_POOL, pool)
    (version,) = build_crd(WORKER_POOL)["spec"]["versions"]
    (column,) = [entry for entry in version["additionalPrinterColumns"] if entry["name"] == "Failed"]
    assert (column["jsonPath"], column["type"], column["priority"]) == (".status.queue.failed", "integer", 1)


def test_the_renderer_follows_names_and_filters() -> None:
    status = {"state": "Healthy", "conditions": [{"type": "Ready", "status": "False", "reason": "PasswordRejected"}]}
    line = show(DATABASE_GUARD, {"status": status})
    assert (line["STATE"], line["READY"], line["REASON"], line["WAITERS"]) == (
        "Healthy",
        "False",
        "PasswordRejected",
        "",
    )
    assert "METHOD" in show(REPLICA_SET, {}, is_wide=True)
    assert "PRIORITY" not in show(WORKER_POOL, {})
