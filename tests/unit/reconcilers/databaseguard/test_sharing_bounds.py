"""Guards of one server, however many: names of other namespaces are shown nowhere, and every text stays short."""

from collections.abc import Iterator
from typing import Any

from headroom.model.conditions import MAX_MESSAGE
from headroom.policy.databaseguard.facts import GuardFacts
from headroom.policy.databaseguard.notes import MOST_NAMED, find_notes
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.unit.policy.databaseguard.make import SERVER, make_spec
from tests.unit.reconcilers.databaseguard.world import GuardWorld, make_guard

FOREIGN, MANY = "somebody-elses", 400
LONGEST_TEXT = 2048
"""Far below the 32,768 that the API server accepts."""


def walk(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every list and text in a status, with its path."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner, f"{path}[]")


def check_bounds(status: dict[str, Any]) -> None:
    for path, value in walk(status):
        if isinstance(value, str):
            assert len(value) <= LONGEST_TEXT, path
        if isinstance(value, list):
            assert len(value) <= 64, path


def test_four_hundred_guards_make_one_short_sentence() -> None:
    names = tuple(f"a-guard-with-a-long-name-{number:03d}" for number in range(MANY))
    facts = GuardFacts("store", server=SERVER, local_guards=names, foreign_guards=MANY)
    (note,) = [note for note in find_notes(make_spec(), facts, None) if note.reason is Reason.SHARED_INSTANCE]
    assert note.message.count("dbg/") == MOST_NAMED
    assert f"{MANY - MOST_NAMED} more guards of this namespace" in note.message
    assert len(note.message) < MAX_MESSAGE / 2


async def test_guards_of_other_namespaces_are_named_nowhere() -> None:
    world = GuardWorld()
    for number in range(20):
        namespace = f"{FOREIGN}-{number}"
        world.postgres.servers[f"db.{namespace}.svc", 5432] = world.primary
        for login in ("monitor", "queue"):
            world.set_secret(f"store-{login}", namespace, username=login, password=f"{login}-password")
        connection = {"host": "db", "replicationSecretRef": None}
        world.cluster.seed(make_guard(f"{FOREIGN}-guard", namespace, connection=connection))
    for _ in range(3):
        await world.step()
        for number in range(20):
            await world.reconciler.reconcile(world.body(f"{FOREIGN}-guard", f"{FOREIGN}-{number}"))
    await world.run(4)
    assert world.condition()["reason"] == Reason.SHARED_INSTANCE
    check_bounds(world.status)
    assert FOREIGN not in str(world.status)
    own = [event for event in world.telemetry.events if event.namespace == NAMESPACE]
    assert FOREIGN not in str(own)
