"""The lives that are played with a crash at each write. A new one is an entry in `LIVES`."""

import asyncio
from typing import Any

from e2e.invariants.suspicion import Invariant
from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.model.replica import MemberId, Role, hash8
from headroom.ports.kube import CLAIM, POD, VOLUME_SNAPSHOT, ObjectRef
from tests.failover import fail_over
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL, LATE
from tests.snapshots import SNAPSHOTS, add_snapshot, restored
from tests.unit.crashes.enumerator import Life
from tests.unit.world import GUARD, POOL, SET, World

CALM = {"lag_seconds": 0.0, "backlog": 0, "late": 0}
LEFT_BEHIND = {Invariant.SLOTS_ARE_MEMBERS: "what a set left behind stays until it is certain that nobody needs it"}
QUICK = {"scaleDown": {"stabilizationWindow": "5s", "maxStepPercent": 100}}
MOST_WORKERS = 12
STALE_SECONDS = 8.0
RESTORES = {"method": "Auto", "snapshots": SNAPSHOTS}
ANCHOR_SEEN_SECONDS = 3.0
"""Until every pass knows of a new slot: they share what one of them has read."""
NEW_IMAGE = "postgres:17.1"
QUERY_SECONDS = 3.0


def bare(world: World) -> None:
    """A guard and a pool."""
    world.add_guard()
    world.add_pool(replicas=1, maxWorkers=MOST_WORKERS, behavior=QUICK)


def with_set(replicas: int = 1, standbys: int = 1, **spec: Any) -> Any:
    """A guard, a pool and a set that is at work."""

    def scene(world: World) -> None:
        bare(world)
        world.add_set(replicas=replicas, standbys=standbys, **spec)

    return scene


def late(world: World) -> None:
    """A pool at its full size, beside a set."""
    with_set()(world)
    world.queue(**LATE)


def without_guard(world: World) -> None:
    """A pool that waits for its guard."""
    world.add_guard()
    world.cluster.remove(GUARD)
    world.add_pool(replicas=1, maxWorkers=MOST_WORKERS, behavior=QUICK)


SNAPSHOTS = {"maxSlotWAL": "1Gi", "snapshots": {"className": "csi-snap", "maxWALBehind": "64Mi", "keep": 1}}
ATOMIC = {**SNAPSHOTS, "snapshots": {"className": "csi-snap", "consistency": "Atomic", "keep": 1}}


def with_snapshots(*sizes: int, **spec: Any) -> Any:
    """A set at work, in a cluster that can take snapshots."""

    def scene(world: World) -> None:
        world.add_snapshot_class()
        with_set(*sizes, **spec)(world)

    return scene


def wants_fresh(serving: int, standbys: int) -> Any:
    """The same, with one snapshot that is fresh, and no other."""
    is_sized = wants(serving, standbys)

    def is_so(world: World) -> bool:
        is_fresh = world.condition(SET, "SnapshotFresh")[0] == "True"
        return is_fresh and is_sized(world) and len(world.children(VOLUME_SNAPSHOT)) == len(world.anchors()) == 1

    return is_so


def write_much(world: World) -> None:
    """So much that the snapshot there is has to be replaced."""
    world.primary.write(100 << 20)


def wants(serving: int, standbys: int) -> Any:
    """The set is Ready with so many members, and no other."""
    roles = [Role.SERVING] * serving + [Role.STANDBY] * standbys

    def is_so(world: World) -> bool:
        is_said = all(world.condition(SET, type_)[0] == "True" for type_ in ("Ready", "WarmPoolReady"))
        return is_said and world.roles() == roles and len(world.names(CLAIM)) == len(roles)

    return is_so


def grow(**spec: Any) -> Any:
    return lambda world: world.edit_spec(SET, **spec)


def scale_in_under_load(world: World) -> None:
    """Fewer replicas, each with a query that runs for some seconds, on a session that stays."""
    for name in world.serving():
        session = MemorySession(state="active")
        world.replica(name).sessions.append(session)
        asyncio.get_running_loop().call_later(QUERY_SECONDS, _end_query, session)
    world.edit_spec(SET, replicas=1)


def _end_query(session: MemorySession) -> None:
    session.state = "idle"


def lose_slot(world: World) -> None:
    """The primary gives up the WAL of the one that serves."""
    member = MemberId.parse_object(SET.name, world.serving()[0])
    assert member is not None
    world.primary.slots[member.slot_name(INSTALL, world.read(SET)["metadata"]["uid"])].wal_status = "lost"


def restore_one(world: World) -> str:
    """A snapshot is there, and a little later one more is wanted: the pool refills from it. Returns its name."""
    name = add_snapshot(world, SET)
    asyncio.get_running_loop().call_later(ANCHOR_SEEN_SECONDS, lambda: world.edit_spec(SET, replicas=2))
    return name


def lose_snapshot(world: World) -> None:
    """The same, but the driver makes no volume of the snapshot, and somebody deletes it after a while.

    Then a copy of the primary is left.
    """
    world.members.restores = False
    lost = ObjectRef(VOLUME_SNAPSHOT, NAMESPACE, restore_one(world))
    asyncio.get_running_loop().call_later(STALE_SECONDS, world.cluster.remove, lost)


def has_restored(count: int) -> Any:
    """So many members are made of a snapshot, in a set of two that serve and one standby."""
    return lambda world: len(restored(world)) == count and wants(2, 1)(world)


def promote(world: World) -> None:
    world.replica(world.serving()[0]).promote()


def fall_behind(world: World) -> None:
    """Replay stands still for a while where reads are served."""
    server = world.replica(world.serving()[0])
    server.is_paused = True
    asyncio.get_running_loop().call_later(STALE_SECONDS, setattr, server, "is_paused", False)


def lose_stream(world: World) -> None:
    """The receiver of the one that serves is down for a while, and in that time the primary does not answer once."""
    server, loop = world.replica(world.serving()[0]), asyncio.get_running_loop()
    server.is_cut_off = True
    loop.call_later(STALE_SECONDS / 4, setattr, world.primary, "is_down", True)
    loop.call_later(STALE_SECONDS / 4 + 1.0, setattr, world.primary, "is_down", False)
    loop.call_later(2 * STALE_SECONDS, setattr, server, "is_cut_off", False)


def want_more_beside_a_stale_one(world: World) -> None:
    """Replay of the standby makes no progress for some time; a process that takes over has not seen for how long."""
    stale = next(name for name in world.names(CLAIM) if name not in world.serving())
    server, loop = world.replica(stale), asyncio.get_running_loop()
    server.is_paused = True
    loop.call_later(STALE_SECONDS / 2, lambda: world.edit_spec(SET, replicas=2))
    loop.call_later(4 * STALE_SECONDS, setattr, server, "is_paused", False)


def is_rolled(world: World) -> bool:
    images = {pod["spec"]["containers"][0]["image"] for pod in world.children(POD) if "containers" in pod["spec"]}
    return wants(1, 1)(world) and images == {NEW_IMAGE}


def is_current(world: World) -> bool:
    members = [world.replica(name) for name in world.names(CLAIM) if name in world.members.ips]
    is_held = any(server.is_paused or server.is_cut_off for server in members)
    return not is_held and len(members) == len(world.roles())


def fail_over_some(world: World) -> None:
    """One that serves and one standby received what the new primary does not have."""
    serving, standbys = sorted(world.serving()), sorted(set(world.names(POD)) - set(world.serving()))
    fail_over(world, {serving[0], next(name for name in standbys if name in world.members.ips)})


def fail_over_all(world: World) -> None:
    fail_over(world, world.members.ips)


def evict(world: World) -> None:
    world.cluster.evict(ObjectRef(POD, NAMESPACE, world.serving()[0]))


def delete_all(world: World) -> None:
    for ref in (SET, POOL, GUARD):
        world.cluster.delete(ref)


def is_gone(*refs: ObjectRef) -> Any:
    return lambda world: all(world.cluster.read(ref) is None for ref in refs)


def add_orphans(world: World) -> None:
    for number in range(2):
        name = f"hr_{INSTALL}_{hash8('a set that is gone')}_{number}_a"
        world.primary.create_slot(name, world.primary.roles["replication"], world.clock.monotonic() - 3600.0)


def are_swept(world: World) -> bool:
    return not [name for name in world.primary.slots if hash8("a set that is gone") in name]


def is_guarded(world: World) -> bool:
    return all(world.condition(ref, "Ready")[0] == "True" for ref in (GUARD, POOL))


def are_asked_for(count: int) -> Any:
    return lambda world: world.asked_for() == count and world.condition(POOL, "Ready")[0] == "True"


LIVES = (
    Life(name="set-create", scene=bare, happens=World.add_set, is_over=wants(1, 1)),
    Life(name="set-scale-out", scene=with_set(), happens=grow(replicas=3), is_over=wants(3, 1)),
    Life(name="set-activate", scene=with_set(1, 2), happens=grow(replicas=2, standbys=1), is_over=wants(2, 1)),
    Life(
        name="set-scale-in",
        scene=with_set(2, 1, drain={"timeout": "6s"}),
        happens=scale_in_under_load,
        is_over=wants(1, 1),
    ),
    Life(name="set-to-pool", scene=with_set(2, 0), happens=grow(replicas=1, standbys=1), is_over=wants(1, 1)),
    Life(name="set-reseed", scene=with_set(), happens=lose_slot, is_over=wants(1, 1)),
    Life(name="set-restore", scene=with_set(provisioning=RESTORES), happens=restore_one, is_over=has_restored(1)),
    Life(
        name="set-restore-lost", scene=with_set(provisioning=RESTORES), happens=lose_snapshot, is_over=has_restored(0)
    ),
    Life(name="set-promoted", scene=with_set(), happens=promote, is_over=wants(1, 1)),
    Life(name="set-roll", scene=with_set(), happens=grow(image=NEW_IMAGE), is_over=is_rolled),
    Life(
        name="set-stale",
        scene=with_set(readiness={"ejectReplayLag": "3s"}),
        happens=fall_behind,
        is_over=lambda w: is_current(w) and wants(1, 1)(w),
    ),
    Life(
        name="set-cut-off",
        scene=with_set(readiness={"ejectReplayLag": "5s"}),
        happens=lose_stream,
        is_over=lambda world: is_current(world) and wants(1, 1)(world),
    ),
    Life(
        name="set-stale-standby",
        scene=with_set(),
        happens=want_more_beside_a_stale_one,
        is_over=lambda world: is_current(world) and wants(2, 1)(world),
    ),
    Life(name="set-failover", scene=with_set(1, 2), happens=fail_over_some, is_over=wants(1, 2)),
    Life(name="set-failover-all", scene=with_set(), happens=fail_over_all, is_over=wants(1, 1)),
    Life(name="set-evict", scene=with_set(), happens=evict, is_over=wants(1, 1)),
    Life(name="set-delete", scene=with_set(), happens=lambda w: w.cluster.delete(SET), is_over=is_gone(SET)),
    Life(
        name="set-delete-retained",
        scene=with_set(retention={"volumes": "Retain"}),
        happens=lambda w: w.cluster.delete(SET),
        is_over=is_gone(SET),
    ),
    Life(
        name="snapshot-first",
        scene=with_snapshots(),
        happens=grow(provisioning=SNAPSHOTS),
        is_over=wants_fresh(1, 1),
    ),
    Life(
        name="snapshot-next",
        scene=with_snapshots(provisioning=SNAPSHOTS),
        happens=write_much,
        is_over=wants_fresh(1, 1),
    ),
    Life(
        name="snapshot-no-standby",
        scene=with_snapshots(1, 0),
        happens=grow(provisioning=SNAPSHOTS),
        is_over=wants_fresh(1, 0),
    ),
    Life(
        name="snapshot-atomic",
        scene=with_snapshots(),
        happens=grow(provisioning=ATOMIC),
        is_over=wants_fresh(1, 1),
    ),
    Life(
        name="snapshot-delete",
        scene=with_snapshots(provisioning=SNAPSHOTS),
        happens=lambda w: w.cluster.delete(SET),
        is_over=is_gone(SET),
    ),
    Life(name="all-delete", scene=with_set(), happens=delete_all, is_over=is_gone(SET, GUARD, POOL)),
    Life(name="guard-create", scene=without_guard, happens=World.add_guard, is_over=is_guarded),
    Life(name="guard-sweep", scene=with_set(), happens=add_orphans, is_over=are_swept, breaks=LEFT_BEHIND),
    Life(name="guard-delete", scene=bare, happens=lambda w: w.cluster.delete(GUARD), is_over=is_gone(GUARD)),
    Life(name="pool-out", scene=with_set(), happens=lambda w: w.queue(**LATE), is_over=are_asked_for(MOST_WORKERS)),
    Life(name="pool-in", scene=late, happens=lambda w: w.queue(**CALM), is_over=are_asked_for(1)),
    Life(name="pool-delete", scene=late, happens=lambda w: w.cluster.delete(POOL), is_over=is_gone(POOL)),
)
