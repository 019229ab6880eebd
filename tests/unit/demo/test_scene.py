"""The scene: resources that the operator accepts, the class of snapshots that the cluster has, and timed commits."""

import asyncio
import importlib
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from e2e.demo.scene import DEFAULT_CLASS, find_snapshot_class, resources
from e2e.lab.kubectl import Kubectl
from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec

APPS = Path(__file__).parents[3] / "e2e" / "apps"


@pytest.mark.parametrize("name", ["some-class", None])
def test_new_replicas_come_from_snapshots_where_the_cluster_has_a_class(name: str | None) -> None:
    (written,) = (one for one in resources("postgres:17", name) if one["kind"] == "ReplicaSet")
    spec = parse_spec(ReplicaSetSpec, written)
    found = spec.provisioning.snapshots
    assert (found.class_name if found else None) == name


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        ({}, None),
        ({"a": None}, "a"),
        ({"a": None, "b": {DEFAULT_CLASS: "true"}}, "b"),
        ({"a": {DEFAULT_CLASS: "false"}, "b": {}}, "a"),
    ],
)
def test_the_default_class_is_taken(
    classes: dict[str, dict[str, str] | None], found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [{"metadata": {"name": name, "annotations": notes}} for name, notes in classes.items()]
    monkeypatch.setattr(Kubectl, "list", lambda *_: items)
    assert find_snapshot_class(Kubectl("shop")) == found


async def test_commits_are_timed_until_the_load_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    produce = load_producer(monkeypatch)
    clock = iter(range(1000))
    monkeypatch.setattr(produce.time, "monotonic", lambda: next(clock) / 100)
    ended = asyncio.Event()

    class Connection(Broken):
        async def execute(self, *query: object) -> "Connection":
            if query[0] == produce.COMMIT:
                self.count += 1
                if self.count == 3:
                    ended.set()
            return self

        async def fetchone(self) -> tuple[int, float]:
            return 7, 1.5

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connecting(Connection()))
    monkeypatch.setattr(produce, "COMMIT_EVERY", 0)
    async with produce.committing(is_wanted=True) as commits:
        await ended.wait()
        await produce.report(Connection(), "commands", 4.0, 9, commits)
        line = json.loads(capsys.readouterr().out)
        assert commits == [], "a commit is in one line only"
    assert [took for _, took in line["commits"]][:2] == [10.0, 10.0]
    assert (line["backlog"], line["lag_seconds"]) == (7, 1.5)


async def test_commits_that_break_off_end_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a measurement would look like a calm primary."""
    produce = load_producer(monkeypatch)
    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connecting(Broken()))
    with pytest.raises(ExceptionGroup) as raised:
        async with produce.committing(is_wanted=True):
            await asyncio.Event().wait()
    assert raised.group_contains(psycopg.OperationalError)
    async with produce.committing(is_wanted=False) as commits:
        assert commits == []


class Broken:
    """A connection whose statements fail."""

    count = 0

    async def __aenter__(self) -> "Broken":
        return self

    async def __aexit__(self, *_error: object) -> None:
        return None

    async def execute(self, *_query: object) -> Any:
        raise psycopg.OperationalError("broken")


def connecting(connection: Broken) -> Any:
    async def connect(*_arguments: object, **_options: object) -> Broken:
        return connection

    return connect


def load_producer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(APPS))
    return importlib.import_module("produce")
