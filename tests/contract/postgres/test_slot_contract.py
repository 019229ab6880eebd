"""What every implementation of SlotLink promises."""

import pytest

from headroom.errors import NotLeading, PrimaryUnavailable, Refused
from headroom.reasons import Reason
from tests.contract.postgres.worlds import World
from tests.postgres_server import APPLICATION, REPLICATION


async def test_a_slot_is_made_once_and_reserves_wal_at_once(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    first = await slots.ensure_slot("hr_aaaa_bbbb_1_1")
    world.write()
    again = await slots.ensure_slot("hr_aaaa_bbbb_1_1")
    assert first.restart_lsn is not None
    assert again.restart_lsn == first.restart_lsn
    assert (again.is_active, again.has_xmin, again.wal_status) == (False, False, "reserved")
    assert again.inactive_seconds is None or again.inactive_seconds >= 0
    assert [slot.name for slot in await primary.slots("hr_")] == ["hr_aaaa_bbbb_1_1"]
    assert (await primary.identify()).slots_used == 1


async def test_a_copy_keeps_what_its_source_keeps(world: World) -> None:
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    anchor = await slots.ensure_slot("hr_aaaa_bbbb_s_1")
    world.write()
    copy = await slots.ensure_slot("hr_aaaa_bbbb_1_1", copied_from="hr_aaaa_bbbb_s_1")
    assert (copy.restart_lsn, copy.has_xmin, copy.is_active) == (anchor.restart_lsn, False, False)
    again = await slots.ensure_slot("hr_aaaa_bbbb_1_1", copied_from="hr_gone")
    assert again.restart_lsn == copy.restart_lsn, "one that exists is taken as it is"


async def test_a_copy_of_nothing_is_not_made(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    with pytest.raises(PrimaryUnavailable) as caught:
        await slots.ensure_slot("hr_aaaa_bbbb_1_1", copied_from="hr_aaaa_bbbb_s_1")
    assert caught.value.reason is Reason.SLOT_LOST
    assert list(await primary.slots("hr_")) == []


async def test_a_slot_that_was_touched_stays_where_it_is(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    before = await slots.ensure_slot("hr_aaaa_bbbb_s_1")
    world.write()
    assert await slots.touch_slot("hr_aaaa_bbbb_s_1")
    (after,) = await primary.slots("hr_aaaa_bbbb_s_1")
    assert (after.restart_lsn, after.wal_status, after.is_active) == (before.restart_lsn, "reserved", False)
    assert after.inactive_seconds is None or after.inactive_seconds < 5


async def test_a_slot_that_is_gone_or_in_use_is_not_touched(world: World) -> None:
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    assert not await slots.touch_slot("hr_gone")
    await slots.ensure_slot("hr_used")
    world.use_slot("hr_used")
    assert not await slots.touch_slot("hr_used")


async def test_slots_are_listed_by_prefix(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    for name in ("hr_aaaa_b_1_1", "hr_aaaa_b_2_1", "hrxaaaa_b_3_1", "other"):
        await slots.ensure_slot(name)
    assert [slot.name for slot in await primary.slots("hr_aaaa_")] == ["hr_aaaa_b_1_1", "hr_aaaa_b_2_1"]


async def test_dropping_is_repeatable(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    await slots.ensure_slot("hr_a")
    assert await slots.drop_slot("hr_a")
    assert await slots.drop_slot("hr_a"), "gone already is gone"
    assert list(await primary.slots("hr_")) == []


async def test_a_slot_in_use_is_not_dropped(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    await slots.ensure_slot("hr_used")
    world.use_slot("hr_used")
    assert not await slots.drop_slot("hr_used")
    (slot,) = await primary.slots("hr_used")
    assert slot.is_active
    assert slot.inactive_seconds is None


async def test_the_sender_on_a_slot_is_ended_on_demand_and_the_slot_dropped(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    await slots.ensure_slot("hr_used")
    world.use_slot("hr_used")
    assert await slots.drop_slot("hr_used", ends_sender=True)
    assert list(await primary.slots("hr_used")) == []


async def test_without_the_installations_lock_nothing_is_dropped(world: World) -> None:
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    await slots.ensure_slot("hr_kept")
    with pytest.raises(PrimaryUnavailable) as caught:
        await slots.drop_slot("hr_kept")
    assert caught.value.reason is Reason.GUARD_NOT_READY
    primary = await world.postgres.open_primary(world.target())
    assert [slot.name for slot in await primary.slots("hr_")] == ["hr_kept"]
    assert await slots.drop_slot("hr_kept")


async def test_without_the_installations_lock_no_sender_is_ended(world: World) -> None:
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    await slots.ensure_slot("hr_used")
    world.use_slot("hr_used")
    with pytest.raises(PrimaryUnavailable):
        await slots.drop_slot("hr_used", ends_sender=True)
    primary = await world.postgres.open_primary(world.target())
    (slot,) = await primary.slots("hr_used")
    assert slot.is_active


async def test_without_the_lease_nothing_is_made_or_dropped(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    await slots.ensure_slot("hr_a")
    world.fence.is_leading = False
    with pytest.raises(NotLeading):
        await slots.ensure_slot("hr_b")
    with pytest.raises(NotLeading):
        await slots.drop_slot("hr_a")
    with pytest.raises(NotLeading):
        await slots.touch_slot("hr_a")
    assert [slot.name for slot in await primary.slots("hr_")] == ["hr_a"]


async def test_the_replication_login_is_checked_in_its_own_dialect(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    assert await slots.check_replication() == (await primary.identify()).system_identifier


async def test_a_login_without_replication_is_told_what_to_run(world: World) -> None:
    slots = await world.postgres.open_slots(world.target(), APPLICATION)
    with pytest.raises(PrimaryUnavailable) as caught:
        await slots.check_replication()
    assert caught.value.reason is Reason.REPLICATION_LOGIN_FAILED
    assert f'ALTER ROLE "{APPLICATION.username}" REPLICATION' in str(caught.value)
    with pytest.raises(Refused) as refused:
        await slots.ensure_slot("hr_a")
    assert refused.value.reason is Reason.MISSING_RIGHT


async def test_no_slot_left_is_told_apart(world: World) -> None:
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    for number in range(10):
        await slots.ensure_slot(f"hr_{number}")
    with pytest.raises(PrimaryUnavailable) as caught:
        await slots.ensure_slot("hr_one_too_many")
    assert caught.value.reason is Reason.SLOTS_EXHAUSTED


async def test_a_promoted_server_tells_where_its_timeline_forked_off(world: World) -> None:
    primary = await world.postgres.open_primary(world.target())
    world.write()
    before = await primary.position()
    await world.postgres.open_replica(world.replica_target())
    world.promote()
    promoted = await world.postgres.open_slots(world.replica_target(), REPLICATION)
    history = await promoted.read_history(before.system_identifier, 2)
    assert history.timeline == 2
    end = history.find_end(1)
    assert end is not None
    assert end <= (await primary.position()).lsn


async def test_the_first_timeline_forked_off_from_nothing(world: World) -> None:
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    assert (await slots.read_history(await slots.check_replication(), 1)).ends == ()


async def test_no_server_tells_of_a_timeline_that_it_does_not_write(world: World) -> None:
    slots = await world.postgres.open_slots(world.target(), REPLICATION)
    with pytest.raises(PrimaryUnavailable):
        await slots.read_history(await slots.check_replication(), 2)
    world.promote()
    promoted = await world.postgres.open_slots(world.replica_target(), REPLICATION)
    with pytest.raises(PrimaryUnavailable) as caught:
        await promoted.read_history("7300000000000009999", 2)
    assert caught.value.reason is Reason.PRIMARY_REPLACED
