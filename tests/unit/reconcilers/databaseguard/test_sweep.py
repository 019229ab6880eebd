"""Slots that sets left behind: dropped once it is certain that nobody needs them, and only then."""

import pytest

from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.postgres_links import MemorySlots
from headroom.errors import HeadroomError, KubeUnavailable, NotLeading, PrimaryUnavailable, Refused
from headroom.model.replica import hash8
from headroom.ports.kube import REPLICA_SET
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard import metrics
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL
from tests.unit.reconcilers.databaseguard.world import GuardWorld

GONE = f"hr_{INSTALL}_{hash8('a set that is gone')}_0_a"
LABELS = {"namespace": NAMESPACE, "name": "store"}


def make_slot(world: GuardWorld, name: str) -> str:
    role = world.primary.roles["replication"]
    world.primary.create_slot(name, role, world.clock.monotonic())
    return name


def add_set(world: GuardWorld, name: str, namespace: str) -> str:
    """Add a set and a slot of it; returns the slot's name."""
    metadata = {"name": name, "namespace": namespace}
    made = world.cluster.seed(
        {"apiVersion": REPLICA_SET.api_version, "kind": "ReplicaSet", "metadata": metadata, "spec": {}}
    )
    return make_slot(world, f"hr_{INSTALL}_{hash8(made['metadata']['uid'])}_0_a")


async def wait(world: GuardWorld, seconds: float) -> None:
    """Let time pass, with a look before and after."""
    await world.step()
    await world.clock.advance(seconds)
    await world.step()


async def test_the_slot_of_the_last_set_is_swept_though_no_set_is_left(world: GuardWorld) -> None:
    make_slot(world, GONE)
    await wait(world, 580)
    assert GONE in world.primary.slots
    await wait(world, 61)
    assert GONE not in world.primary.slots
    assert world.telemetry.value(metrics.SLOTS_SWEPT, **LABELS) == 1
    swept = [event for event in world.telemetry.events if event.reason is Reason.SLOT_LEFT_BEHIND]
    assert [(event.kind, GONE in event.message) for event in swept] == [("DatabaseGuard", True)]


async def test_anchors_of_a_set_that_is_gone_are_swept_and_those_of_others_are_left(world: GuardWorld) -> None:
    gone, other = hash8("a set that is gone"), hash8("a set of another installation")
    anchor, foreign = make_slot(world, f"hr_{INSTALL}_{gone}_s_a"), make_slot(world, f"hr_ffffffff_{other}_s_a")
    live = make_slot(world, add_set(world, "one", NAMESPACE).replace("_0_a", "_s_a"))
    await wait(world, 580)
    await wait(world, 61)
    assert anchor not in world.primary.slots
    assert {foreign, live} <= set(world.primary.slots)


async def test_slots_of_live_sets_of_others_and_in_use_are_left(world: GuardWorld) -> None:
    foreign = f"hr_ffffffff_{hash8('a set of another installation')}_0_a"
    ours_by_prefix_only = f"hr_{INSTALL}_something_else"
    in_use = f"hr_{INSTALL}_{hash8('a set that is gone')}_1_a"
    kept = [make_slot(world, name) for name in (foreign, ours_by_prefix_only, in_use, "patroni_1")]
    world.primary.slots[in_use].is_active = True
    kept += [add_set(world, "one", NAMESPACE), add_set(world, "two", "elsewhere")]
    make_slot(world, GONE)
    await wait(world, 700)
    assert sorted(world.primary.slots) == sorted(kept)


async def test_every_namespace_that_is_watched_is_looked_at(world: GuardWorld) -> None:
    world.namespaces = (NAMESPACE, "elsewhere")
    world.restart()
    alive = add_set(world, "two", "elsewhere")
    make_slot(world, GONE)
    await wait(world, 700)
    assert sorted(world.primary.slots) == [alive]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(KubeUnavailable("too many requests", reason=Reason.KUBE_UNAVAILABLE), id="429"),
        pytest.param(Refused("no right to list", reason=Reason.FORBIDDEN), id="403"),
    ],
)
async def test_sets_that_cannot_be_listed_hold_the_sweep(world: GuardWorld, error: HeadroomError) -> None:
    world.namespaces = (NAMESPACE, "elsewhere")
    world.restart()
    make_slot(world, GONE)
    fault = world.kube.faults.fail(error, verb="list", kind=REPLICA_SET, nth=2)
    await wait(world, 700)
    assert fault.seen == 2
    assert GONE in world.primary.slots
    assert world.ready[0] == "True"
    await wait(world, 61)
    assert GONE not in world.primary.slots


async def test_a_kind_that_is_not_served_holds_the_sweep(world: GuardWorld) -> None:
    """An API server that has just begun may answer 404 for a moment: every set would look gone."""
    alive = add_set(world, "one", NAMESPACE)
    make_slot(world, GONE)
    world.kube.kinds.remove(REPLICA_SET)
    await wait(world, 700)
    assert sorted(world.primary.slots) == sorted([alive, GONE])
    world.kube.kinds.register(REPLICA_SET)
    await wait(world, 61)
    assert sorted(world.primary.slots) == [alive]


async def test_a_guard_that_is_not_ready_sweeps_nothing(world: GuardWorld) -> None:
    make_slot(world, GONE)
    await world.step()
    world.remove_secret("store-replication")
    await wait(world, 61)
    await wait(world, 700)
    assert world.ready == ("False", Reason.SECRET_NOT_FOUND)
    assert GONE in world.primary.slots


async def test_a_lock_that_is_not_ours_holds_the_sweep_and_the_guard_stays_ready(
    world: GuardWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_slot(world, GONE)
    await world.step()
    errors: list[HeadroomError] = [
        PrimaryUnavailable("the lock is not held", reason=Reason.GUARD_NOT_READY),
        NotLeading("the lease is lost"),
    ]

    async def refuse(_: MemorySlots, _name: str) -> bool:
        raise errors.pop(0)

    monkeypatch.setattr(MemorySlots, "drop_slot", refuse)
    await wait(world, 700)
    assert GONE in world.primary.slots
    assert world.ready[0] == "True"
    await world.clock.advance(61)
    with pytest.raises(NotLeading):
        await world.step()


async def test_sets_are_read_live_once_a_minute_and_only_where_the_watches_know_no_set(world: GuardWorld) -> None:
    alive = add_set(world, "one", NAMESPACE)
    world.primary.slots[alive].inactive_since = -1000.0
    await world.run(130)
    assert not [ref for verb, ref in world.kube.calls if verb == "list" and ref.kind == REPLICA_SET]
    gone = make_slot(world, GONE)
    world.primary.slots[gone].is_active = True
    await world.run(60)
    world.primary.slots[gone].is_active, world.primary.slots[gone].inactive_since = False, -1000.0
    await world.run(240)
    lists = [ref for verb, ref in world.kube.calls if verb == "list" and ref.kind == REPLICA_SET]
    assert len(lists) == 1, "it was dropped, and nothing is left to ask for"
    assert sorted(world.primary.slots) == [alive]


async def test_a_set_that_the_watches_have_not_seen_yet_keeps_its_slot(world: GuardWorld) -> None:
    cache = world.reconciler.services.cache
    assert isinstance(cache, MemoryCache)
    cache.freeze()
    alive = add_set(world, "new", NAMESPACE)
    world.primary.slots[alive].inactive_since = -1000.0
    await world.run(70)
    assert [ref for verb, ref in world.kube.calls if verb == "list" and ref.kind == REPLICA_SET]
    assert sorted(world.primary.slots) == [alive]
