"""Replicas whose image lacks what the data needs: named, never put into the Service, and cleared without a restart."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_links import MemoryReplica
from headroom.adapters.inmemory.postgres_server import DEFAULT_LIBRARIES, MemoryServer
from headroom.model.libraries import CollationFacts, DatabaseLibraries, ServerLibraries
from headroom.ports.kube import POD
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.library_reader import CALM_SECONDS, WAITING_SECONDS
from tests.unit.reconcilers.replicaset.world import World

OTHER_GLIBC = replace(
    DEFAULT_LIBRARIES, databases=(DatabaseLibraries("store", (CollationFacts("default", "c", "2.36", "2.31"),)),)
)
NEEDS_TRIGRAMS = replace(
    DEFAULT_LIBRARIES,
    databases=tuple(
        replace(database, extensions=(*database.extensions, ("pg_trgm", "1.6")))
        for database in DEFAULT_LIBRARIES.databases
    ),
)
WITHOUT_TRIGRAMS = replace(DEFAULT_LIBRARIES, available=frozenset({("plpgsql", "1.0")}))


def give_new_pods(world: World, libraries: ServerLibraries | None) -> None:
    """Members that start from now on have these."""
    start = world.members._start

    def start_with(ref: Any, slot: str) -> None:
        start(ref, slot)
        world.replica(ref.name).libraries = libraries

    world.members._start = start_with  # type: ignore[method-assign]


def names_of(world: World) -> list[str]:
    return world.names(POD)


def give_all(world: World, libraries: ServerLibraries) -> None:
    for name in names_of(world):
        world.replica(name).libraries = libraries


def asked(server: MemoryServer) -> int:
    return server.questions["libraries"]


async def test_a_member_with_another_glibc_is_not_accepted_and_the_set_says_why() -> None:
    world = World()
    give_new_pods(world, OTHER_GLIBC)
    world.add_set(replicas=1, standbys=0)
    await world.run(30)
    assert world.roles() == ["provisioning"]
    assert world.serving() == []
    stalled, ready = world.condition("Stalled"), world.condition("Ready")
    assert (stalled["status"], stalled["reason"]) == ("True", Reason.COLLATION_MISMATCH)
    assert "database store" in stalled["message"]
    assert "glibc version 2.36 on the primary" in stalled["message"]
    assert ready["status"] == "False"
    assert "spec.image" in ready["message"]
    [member] = world.status["members"]
    caught_up = next(entry for entry in member["conditions"] if entry["type"] == "CaughtUp")
    assert (caught_up["status"], caught_up["reason"]) == ("False", Reason.COLLATION_MISMATCH)
    pause = await world.one_pass()
    assert pause is not None
    assert pause.total_seconds() >= 1, "nothing is about to happen"
    await world.run(700, step=5)
    assert len(names_of(world)) == 1, "no further copy of the same image"


async def test_a_waived_extension_lets_it_serve_at_once() -> None:
    world = World()
    world.primary.libraries = NEEDS_TRIGRAMS
    give_new_pods(world, replace(NEEDS_TRIGRAMS, available=frozenset({("plpgsql", "1.0")})))
    world.add_set(replicas=1, standbys=0)
    await world.run(20)
    assert world.condition("Stalled")["reason"] == Reason.EXTENSION_MISSING
    world.edit_spec(readiness={"ignoreLibraries": ["pg_trgm"]})
    await world.run(6)
    assert world.roles() == ["serving"]
    assert world.condition("Stalled")["status"] == "False"


async def test_a_later_extension_takes_no_last_replica_out_and_no_standby_in() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    serving = world.serving()
    give_all(world, WITHOUT_TRIGRAMS)
    world.primary.libraries = NEEDS_TRIGRAMS
    await world.run(2 * CALM_SECONDS + 10, step=2)
    assert world.serving() == serving
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("False", Reason.EXTENSION_MISSING)
    assert ready["message"].startswith(f"{serving[0]}: extension pg_trgm 1.6 of database store is not in")
    assert "it serves until another can take its place" in ready["message"]
    assert world.condition("WarmPoolReady")["reason"] == Reason.EXTENSION_MISSING
    assert world.condition("ReadsMayBeStale")["status"] == "False"
    assert len(names_of(world)) == 2
    # Dropped on the primary: everything is as it was, and no pod was touched.
    world.primary.libraries = DEFAULT_LIBRARIES
    await world.run(2 * WAITING_SECONDS + 5)
    assert world.condition("Ready")["status"] == "True"
    assert world.roles() == ["serving", "standby"]


async def test_one_that_serves_leaves_where_a_standby_suits() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    [old] = world.serving()
    world.replica(old).libraries = WITHOUT_TRIGRAMS
    world.primary.libraries = NEEDS_TRIGRAMS
    for _ in range(int(2 * CALM_SECONDS)):
        await world.run(1, step=1)
        assert world.serving(), "the Service is never empty"
    assert old not in world.serving()
    assert Reason.EXTENSION_MISSING in world.telemetry.reasons("store")


async def test_a_corrected_image_replaces_all_without_a_copy_more() -> None:
    world = World()
    give_new_pods(world, OTHER_GLIBC)
    world.add_set(replicas=1, standbys=1)
    await world.run(30)
    assert world.roles() == ["provisioning"]
    give_new_pods(world, DEFAULT_LIBRARIES)
    world.edit_spec(image="postgres:17-bookworm")
    await world.run(40)
    assert world.roles() == ["serving", "standby"]
    assert world.condition("Ready")["status"] == "True"


async def test_a_change_of_leader_lets_nobody_in_that_was_found_wrong() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    [serving] = world.serving()
    [standby] = set(names_of(world)) - {serving}
    world.replica(standby).libraries = WITHOUT_TRIGRAMS
    world.primary.libraries = NEEDS_TRIGRAMS
    await world.run(2 * CALM_SECONDS + 10, step=2)
    assert world.condition("WarmPoolReady")["reason"] == Reason.EXTENSION_MISSING
    world.replica(standby).libraries = None
    world.restart()
    world.replica(serving).is_down = True
    for _ in range(30):
        await world.run(1)
        assert standby not in world.serving()


async def test_a_pass_never_waits_for_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = asyncio.Event()
    read = MemoryReplica.libraries

    async def wait_first(link: MemoryReplica) -> ServerLibraries:
        await gate.wait()
        return await read(link)

    monkeypatch.setattr(MemoryReplica, "libraries", wait_first)
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(15)
    assert world.roles() == ["provisioning"], "nobody serves unread"
    assert "are being compared" in world.condition("Ready")["message"]
    before = world.clock.monotonic()
    await world.one_pass()
    assert world.clock.monotonic() - before < 0.5
    gate.set()
    await world.run(3)
    assert world.roles() == ["serving"]


async def test_what_cannot_be_read_is_said_and_asked_again() -> None:
    world = World()
    give_new_pods(world, None)
    world.add_set(replicas=1, standbys=0)
    await world.run(15)
    ready = world.condition("Ready")
    assert (ready["status"], world.roles()) == ("False", ["provisioning"])
    assert "cannot be read, and are asked for again: 10.0.0.10:5432: canceling statement" in ready["message"]


async def test_libraries_are_read_seldom_while_all_is_calm() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    servers = [world.primary, *(world.replica(name) for name in names_of(world))]
    before = [asked(server) for server in servers]
    await world.run(4 * CALM_SECONDS, step=2)
    assert all(asked(server) - count <= 5 for server, count in zip(servers, before, strict=True))


async def test_another_primary_is_asked_at_once() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    before = asked(world.primary)
    world.primary.timeline += 1
    await world.run(10)
    assert asked(world.primary) > before


async def test_what_is_not_compared_stands_in_ready() -> None:
    world = World()
    closed = DatabaseLibraries("stock", (CollationFacts("default", "c", "2.36", "2.36"),), unread="permission denied")
    world.primary.libraries = replace(DEFAULT_LIBRARIES, databases=(*DEFAULT_LIBRARIES.databases, closed))
    world.add_set(replicas=1, standbys=0)
    await world.run(20)
    assert world.condition("Ready")["status"] == "True"
    assert "the extensions of database stock are not compared: permission denied" in world.condition("Ready")["message"]
