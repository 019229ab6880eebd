"""Slots that the primary gives up, for their WAL or since nobody uses them: which of ours, and what we say of them."""

import asyncio
import time
from dataclasses import dataclass

import pytest

from headroom.errors import PrimaryUnavailable
from headroom.model.database import SlotFacts
from headroom.model.replica import Role
from headroom.model.snapshot import SnapshotFacts, Stamps
from headroom.policy.replicaset.snapshot_fit import Fit, find_flaw
from headroom.policy.replicaset.stages import decide_stage
from headroom.ports.postgres import Postgres, PrimaryLink, SlotLink
from headroom.reasons import Reason
from tests.postgres_installation import Installation
from tests.postgres_server import REPLICATION, Server, ServerMaker
from tests.unit.policy.replicaset.make import NOW, context, make_member

IDLE_SECONDS = 3
"""The server takes any whole second; less would let a busy machine take the slot that is touched, too."""
PATIENCE_SECONDS = 60.0
TOUCHED, LEFT = "hr_0123abcd_4567cdef_s_a", "hr_0123abcd_4567cdef_s_b"
MEMBER = "hr_0123abcd_4567cdef_0_a"


@dataclass
class Scene:
    """A primary that has given up the slots which nobody used, and what it answers."""

    server: Server
    primary: PrimaryLink
    slots: SlotLink
    before: dict[str, SlotFacts]

    async def read(self) -> dict[str, SlotFacts]:
        return {slot.name: slot for slot in await self.primary.slots("hr_0123abcd_")}

    async def touch_until_the_other_is_lost(self) -> dict[str, SlotFacts]:
        """A server looks for such slots at each checkpoint."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not (found := await self.read())[LEFT].is_lost:
            assert time.monotonic() < end, f"still there: {found}"
            assert await self.slots.touch_slot(TOUCHED)
            self.server.sql("CHECKPOINT")
            await asyncio.sleep(0.3)
        return found


@pytest.fixture
async def scene(installation: Installation, servers: ServerMaker, postgres: Postgres) -> Scene:
    if installation.major < 18:
        pytest.skip("idle_replication_slot_timeout came with PostgreSQL 18")
    server = servers.make(idle_replication_slot_timeout=f"{IDLE_SECONDS}s")
    primary = await postgres.open_primary(server.target())
    slots = await postgres.open_slots(server.target(), REPLICATION)
    before = {name: await slots.ensure_slot(name) for name in (TOUCHED, LEFT, MEMBER)}
    return Scene(server, primary, slots, before)


async def test_the_setting_is_read_in_seconds(scene: Scene) -> None:
    settings = (await scene.primary.identify()).settings
    assert settings["idle_replication_slot_timeout"] == str(IDLE_SECONDS)
    [row] = scene.server.sql("SELECT unit, min_val FROM pg_settings WHERE name = 'idle_replication_slot_timeout'")
    assert row == {"unit": "s", "min_val": "0"}, "it may be shorter than a minute"


async def test_a_slot_that_is_touched_stays_and_one_that_is_not_is_named_as_lost(scene: Scene) -> None:
    assert {slot.wal_status for slot in scene.before.values()} == {"reserved"}
    assert {slot.invalidation for slot in scene.before.values()} == {None}
    found = await scene.touch_until_the_other_is_lost()
    touched, left = found[TOUCHED], found[LEFT]
    assert (touched.is_lost, touched.wal_status, touched.invalidation) == (False, "reserved", None)
    assert touched.restart_lsn == scene.before[TOUCHED].restart_lsn, "it keeps the WAL that it kept"
    assert (left.is_lost, left.wal_status, left.invalidation) == (True, "lost", "idle_timeout")
    [row] = scene.server.sql("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = %s", [LEFT])
    assert row["restart_lsn"] is not None, "the server still says from where"
    assert left.restart_lsn is None, "and keeps nothing from there"
    again = await scene.slots.ensure_slot(LEFT)
    assert (again.is_lost, again.restart_lsn) == (True, None), "what was there is no new slot"
    assert not await scene.slots.touch_slot(LEFT), "too late"


async def test_a_slot_that_streams_is_not_given_up(scene: Scene, servers: ServerMaker) -> None:
    replica = servers.make_replica(scene.server, slot="hr_0123abcd_4567cdef_1_a")
    found = await scene.touch_until_the_other_is_lost()
    assert found["hr_0123abcd_4567cdef_1_a"].is_active
    assert not found["hr_0123abcd_4567cdef_1_a"].is_lost
    assert replica.sql("SELECT status FROM pg_stat_wal_receiver") == [{"status": "streaming"}]


async def test_no_snapshot_is_restored_by_an_anchor_that_was_given_up(scene: Scene) -> None:
    found = await scene.touch_until_the_other_is_lost()
    server, position = await scene.primary.identify(), await scene.primary.position()
    fit = Fit(position, server.major, None, {name: found[name] for name in (TOUCHED, LEFT)}, 1024**3)
    problems = {}
    for name in (TOUCHED, LEFT):
        start = scene.before[name].restart_lsn
        assert start is not None
        stamps = Stamps(position.system_identifier, 1, server.major, "Stopped", MEMBER, name, start, position.lsn)
        snapshot = SnapshotFacts("store-s-a", "u", "1", NOW, is_ready=True, stamps=stamps)
        problems[name] = find_flaw(snapshot, fit)
    assert problems[TOUCHED] == ""
    assert LEFT in (problems[LEFT] or "")
    assert "raise idle_replication_slot_timeout" in (problems[LEFT] or "")
    assert (await scene.slots.ensure_slot("hr_0123abcd_4567cdef_1_b", copied_from=TOUCHED)).restart_lsn is not None
    with pytest.raises(PrimaryUnavailable) as caught:
        await scene.slots.ensure_slot("hr_0123abcd_4567cdef_1_c", copied_from=LEFT)
    assert caught.value.reason is Reason.SLOT_LOST


async def test_a_member_whose_slot_was_given_up_is_not_called_fine(scene: Scene) -> None:
    found = await scene.touch_until_the_other_is_lost()
    slot = found[MEMBER]
    assert decide_stage(make_member(Role.STANDBY, slot=found[TOUCHED]), context()).reason is not Reason.SLOT_LOST
    verdict = decide_stage(make_member(Role.STANDBY, slot=slot, slot_name=MEMBER), context())
    assert (verdict.reason, verdict.is_failed) == (Reason.SLOT_LOST, True)
    assert "raise idle_replication_slot_timeout" in verdict.message


async def test_a_slot_whose_wal_was_removed_is_named_as_such(
    installation: Installation, servers: ServerMaker, postgres: Postgres
) -> None:
    server = servers.make(max_slot_wal_keep_size="1MB", wal_keep_size="0")
    primary = await postgres.open_primary(server.target())
    slots = await postgres.open_slots(server.target(), REPLICATION)
    before = await slots.ensure_slot(LEFT)
    for _ in range(4):  # segments are of 1 MB
        server.sql("SELECT pg_switch_wal() FROM pg_logical_emit_message(false, 'x', 'x')")
    server.sql("CHECKPOINT")
    [slot] = await primary.slots(LEFT)
    assert (before.is_lost, slot.is_lost, slot.restart_lsn) == (False, True, None)
    assert slot.invalidation == ("wal_removed" if installation.major >= 17 else None)
    assert "raise max_slot_wal_keep_size" in slot.describe_loss()
    assert not await slots.touch_slot(LEFT)
    with pytest.raises(PrimaryUnavailable) as caught:
        await slots.ensure_slot(MEMBER, copied_from=LEFT)
    assert caught.value.reason is Reason.SLOT_LOST
