"""Two installations on one primary, and one whose id changed with its version: nobody takes a slot of somebody else,
and no replica is copied again.
"""

from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySlot
from headroom.model.database import Lsn
from headroom.model.replica import hash8
from headroom.ports.kube import CLAIM, POD, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.memory_world import INSTALL
from tests.unit.reconcilers.replicaset.world import World

OLD, NEW = INSTALL, "fedcba98"
SWEPT_WITHIN = 14 * 60.0


class Versions(World):
    """A world whose next process may know its installation by a former id, and watch a few namespaces only."""

    def upgrade(self, *watched: str) -> None:
        """The next process is of the version that has another id for the same installation."""
        self.former_ids, self.namespaces = (OLD,), watched
        self.restart(NEW)

    def add_slot(self, name: str) -> None:
        """As a process of somebody else, or an earlier one, created it."""
        self.primary.slots[name] = MemorySlot(Lsn(self.primary.lsn), inactive_since=self.clock.monotonic())

    def uids(self) -> list[str]:
        return sorted(item["metadata"]["uid"] for kind in (POD, CLAIM) for item in self.children(kind))


async def make_world(**spec: Any) -> Versions:
    world = Versions()
    world.add_set(replicas=1, standbys=1, **spec)
    await world.run(20)
    assert world.roles() == ["serving", "standby"]
    return world


async def test_slots_of_the_former_id_are_adopted_and_nothing_is_copied_again() -> None:
    world = await make_world()
    slots, uids = sorted(world.primary.slots), world.uids()
    world.upgrade()
    await world.run(SWEPT_WITHIN, step=5)
    assert world.uids() == uids
    assert sorted(world.primary.slots) == slots
    assert world.status["slots"]["count"] == 2


async def test_a_slot_of_the_former_id_that_has_no_claim_yet_is_continued_or_dropped() -> None:
    """The old process ended between the slot and the claim."""
    world = Versions()
    world.add_set(replicas=1, standbys=0)
    while not world.primary.slots:
        await world.one_pass()
    [slot] = world.primary.slots
    assert world.children(CLAIM) == []
    world.upgrade()
    await world.run(30)
    assert list(world.primary.slots) == [slot]
    assert world.roles() == ["serving"]
    assert await world.delete(60)
    assert not world.primary.slots


@pytest.mark.parametrize("is_primary_down", [False, True])
async def test_a_set_is_deleted_with_slots_of_both_ids(*, is_primary_down: bool) -> None:
    world = await make_world()
    world.upgrade()
    world.edit_spec(standbys=2)
    await world.run(30)
    assert {name[:11] for name in world.primary.slots} == {f"hr_{OLD}", f"hr_{NEW}"}
    world.primary.is_down = is_primary_down
    if is_primary_down:
        assert not await world.delete(60, step=2)
        world.restart(NEW)
        world.primary.is_down = False
    assert await world.delete(60)
    assert not world.primary.slots


@pytest.mark.parametrize("watched", [(), (NAMESPACE,)])
async def test_a_deletion_that_gives_up_names_each_slot_as_it_is_called_and_who_drops_it(
    watched: tuple[str, ...],
) -> None:
    world = await make_world()
    world.upgrade(*watched)
    world.edit_spec(standbys=2)
    await world.run(30)
    slots = sorted(world.primary.slots)
    world.primary.is_down = True
    assert not await world.delete(60, step=2)
    world.watched, world.former_ids = watched, (OLD,)
    world.restart(NEW)
    assert await world.delete(700, step=10)
    [said] = [event.message for event in world.telemetry.events if event.reason is Reason.SLOT_LEFT_BEHIND]
    by_hand = said.partition("; they are swept later, else drop them by hand")[2]
    assert all(said.count(slot) == 1 for slot in slots)
    assert {name for name in slots if name in by_hand} == {name for name in slots if watched and OLD in name}
    assert ("nobody sweeps them while watchNamespaces is set" in by_hand) is bool(watched)


async def test_an_orphan_of_the_former_id_is_swept_only_by_who_sees_all_sets() -> None:
    """With a few namespaces watched it may be another release's, which had the same id and is not upgraded yet."""
    orphan = f"hr_{OLD}_{hash8('a set that is gone')}_0_a"
    for watched in ((), (NAMESPACE,)):
        world = await make_world()
        world.upgrade(*watched)
        world.add_slot(orphan)
        await world.run(SWEPT_WITHIN, step=5)
        assert (orphan in world.primary.slots) is bool(watched)
        assert len(world.primary.slots) == 2 + bool(watched)


async def test_two_releases_with_disjoint_watches_leave_each_other_alone() -> None:
    """Both had the former id; the other one's set is in a namespace that this one does not see."""
    world = await make_world()
    other = f"hr_{OLD}_{hash8('the set of the other release')}_0_a"
    fresh = f"hr_0badcafe_{hash8('the set of the other release')}_1_b"
    world.upgrade(NAMESPACE)
    for name in (other, fresh):
        world.add_slot(name)
    await world.run(SWEPT_WITHIN, step=5)
    assert {other, fresh} <= set(world.primary.slots)
    assert await world.delete(60)
    assert set(world.primary.slots) == {other, fresh}


@pytest.mark.parametrize(
    "written",
    [
        "their_own_slot",
        f"hr_{OLD}_{hash8('a set of somebody else')}_0_a",
        "hr_0badcafe_{mine}_77_a",
        "hr_0badcafe_{mine}_0_zzzz",
        "{slot}\n",
        "hr_0badcafe_{mine}_" + "1" * 5000 + "_a",
    ],
    ids=["another's", "another set's", "another ordinal", "another life", "with a line end", "an endless number"],
)
async def test_an_edited_claim_does_not_choose_which_slot_is_dropped(written: str) -> None:
    """Whoever may edit claims in a namespace may write any name there; the guard's login may drop every slot."""
    world = await make_world()
    mine = hash8(world.body["metadata"]["uid"])
    [slot, other] = sorted(world.primary.slots)
    written = written.format(mine=mine, slot=slot)
    world.add_slot(written)
    for item in world.children(CLAIM):
        if item["metadata"]["annotations"]["headroom.dev/slot"] == slot:
            ref = ObjectRef(CLAIM, NAMESPACE, item["metadata"]["name"])
            world.cluster.edit(
                ref, lambda claim: claim["metadata"]["annotations"].update({"headroom.dev/slot": written})
            )
    await world.run(20)
    assert {slot, other, written} <= set(world.primary.slots)
    assert await world.delete(60)
    left = set(world.primary.slots)
    assert written in left or mine in written, "a slot of this very set is dropped with it"
    assert not left & {slot, other}


async def test_a_claim_still_names_the_slot_of_its_member_by_an_installation_that_is_called_otherwise() -> None:
    """The copy is bound to it, and this version would not find it by its prefix."""
    world = await make_world()
    world.former_ids = ()
    slots, uids = sorted(world.primary.slots), world.uids()
    world.restart(NEW)
    await world.run(30)
    assert (sorted(world.primary.slots), world.uids()) == (slots, uids)
    assert await world.delete(60)
    assert not world.primary.slots
