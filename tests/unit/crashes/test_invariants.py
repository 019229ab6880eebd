"""Each rule sees what it is there for: a world at work, in which it is broken on purpose."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from headroom.model.replica import RETIRE_ANNOTATION, ROLE_LABEL
from headroom.model.snapshot import ANCHOR, CONSISTENCY, SNAPSHOT_ANNOTATION, anchor_name
from headroom.ports.kube import CLAIM, DEPLOYMENT, POD, VOLUME_SNAPSHOT, Manifest, ObjectRef
from tests.manifests import NAMESPACE, make
from tests.memory_world import INSTALL
from tests.unit.crashes import steps
from tests.unit.crashes.enumerator import WatchedWorld, find_orphans
from tests.unit.crashes.lives import with_set
from tests.unit.crashes.steps import Step
from tests.unit.world import SET

pytestmark = pytest.mark.looptime(start=0)
Break = Callable[[WatchedWorld], object]


@asynccontextmanager
async def left_alone() -> AsyncIterator[WatchedWorld]:
    """One serves, one stands by, and the operator is gone: what happens now is done by the test."""
    async with WatchedWorld() as made:
        with_set()(made)
        await made.start()
        await made.settle()
        made.kill()
        yield made


def standby(world: WatchedWorld) -> ObjectRef:
    return ObjectRef(POD, NAMESPACE, next(name for name in world.names(CLAIM) if name not in world.serving()))


def serving(world: WatchedWorld) -> ObjectRef:
    return ObjectRef(POD, NAMESPACE, world.serving()[0])


def label(world: WatchedWorld, ref: ObjectRef, role: str) -> None:
    def change(pod: Manifest) -> None:
        pod["metadata"]["labels"][ROLE_LABEL] = role

    world.cluster.edit(ref, change)


def activate_promoted(world: WatchedWorld) -> None:
    world.replica(standby(world).name).promote()
    label(world, standby(world), "serving")


def activate_stale(world: WatchedWorld) -> None:
    label(world, standby(world), "serving")


def take_last(world: WatchedWorld) -> None:
    label(world, serving(world), "draining")


def add_claim_without_slot(world: WatchedWorld) -> None:
    claim = world.read(ObjectRef(CLAIM, NAMESPACE, standby(world).name))
    metadata = {**claim["metadata"], "name": f"{SET.name}-7-a"}
    annotations = {"headroom.dev/slot": f"hr_{INSTALL}_00000000_7_a"}
    world.seed({**claim, "metadata": {**metadata, "annotations": annotations}})


def drop_live_slot(world: WatchedWorld) -> None:
    del world.primary.slots[world.slots()[0]]


def remove_claim(world: WatchedWorld) -> None:
    world.cluster.remove(ObjectRef(CLAIM, NAMESPACE, standby(world).name))


def begin_too_many(world: WatchedWorld) -> None:
    prefix = world.slots()[0].rpartition("_")[0].rpartition("_")[0]
    for number in (7, 8):
        world.primary.create_slot(f"{prefix}_{number}_a", world.primary.roles["replication"], 0.0)


def take_workers(world: WatchedWorld) -> None:
    world.cluster.edit(ObjectRef(DEPLOYMENT, NAMESPACE, "mail"), lambda item: item["spec"].update(replicas=7))


def stop_the_only_standby(world: WatchedWorld) -> None:
    ref = standby(world)
    chosen = {SNAPSHOT_ANNOTATION: "store-s-a"}
    world.cluster.edit(ObjectRef(CLAIM, NAMESPACE, ref.name), lambda c: c["metadata"]["annotations"].update(chosen))
    world.cluster.delete(ref)


def take_without_anchor(world: WatchedWorld) -> None:
    metadata = {"annotations": {ANCHOR: f"hr_{INSTALL}_4567cdef_s_a", CONSISTENCY: "Stopped"}}
    world.cluster.seed(make(VOLUME_SNAPSHOT, "store-s-a", metadata=metadata, spec={}))


BREAKS: tuple[tuple[Step, Break], ...] = (
    (steps.activates_who_is_fit, activate_promoted),
    (steps.takes_nobody_needed, take_last),
    (steps.slot_is_first, add_claim_without_slot),
    (steps.slot_of_live_member_stays, drop_live_slot),
    (steps.claim_goes_last, remove_claim),
    (steps.no_more_than_wanted, begin_too_many),
    (steps.stops_nobody_asked_for, stop_the_only_standby),
    (steps.anchor_is_first, take_without_anchor),
    (steps.workers_follow_the_queue, take_workers),
)


@pytest.mark.parametrize(("rule", "break_it"), BREAKS, ids=[rule.__name__ for rule, _ in BREAKS])
async def test_a_rule_about_writes_sees_what_breaks_it(rule: Step, break_it: Break) -> None:
    async with left_alone() as world:
        before = world.look()
        assert not list(rule(before, before))
        break_it(world)
        assert list(rule(before, world.look()))


def test_each_rule_is_broken_once() -> None:
    assert [rule for rule, _ in BREAKS] == list(steps.STEPS)


async def test_a_member_that_stands_still_is_not_fit() -> None:
    async with left_alone() as world:
        world.replica(standby(world).name).is_paused = True
        await asyncio.sleep(5.0)
        before = world.look()
        activate_stale(world)
        [found] = steps.activates_who_is_fit(before, world.look())
        assert "behind" in found


async def test_a_slot_that_no_member_has_is_an_orphan() -> None:
    async with left_alone() as world:
        assert not list(find_orphans(world))
        remove_claim(world)
        assert list(find_orphans(world))


async def test_an_anchor_without_its_snapshot_is_an_orphan_and_so_is_a_snapshot_without_its_anchor() -> None:
    async with left_alone() as world:
        name = anchor_name(INSTALL, world.read(SET)["metadata"]["uid"], "a")
        world.primary.create_slot(name, world.primary.roles["replication"], 0.0)
        assert list(find_orphans(world))
        del world.primary.slots[name]
        assert not list(find_orphans(world))
        take_without_anchor(world)
        assert list(find_orphans(world))


async def test_a_member_on_its_way_out_makes_room_for_another() -> None:
    async with left_alone() as world:
        before = world.look()

        def retire(claim: Manifest) -> None:
            claim["metadata"]["annotations"][RETIRE_ANNOTATION] = "Retired"

        for name in world.names(CLAIM):
            world.cluster.edit(ObjectRef(CLAIM, NAMESPACE, name), retire)
        begin_too_many(world)
        assert not list(steps.no_more_than_wanted(before, world.look()))


async def test_the_invariants_of_the_end_to_end_tests_are_judged_too() -> None:
    async with left_alone() as world:
        """What each of them sees is tested beside them; here, that they get to see this world."""
        await world.start()
        world.cluster.seed(replace_metadata(world.read(serving(world)), name="intruder"))
        world.look()
        assert any("one-pod-for-each" in violation.describe() for violation in world.checker.violations)


def replace_metadata(manifest: Manifest, **changes: str) -> Manifest:
    return {**manifest, "metadata": {**manifest["metadata"], **changes}}
