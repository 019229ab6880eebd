"""What becomes of a snapshot and of its anchor."""

from dataclasses import replace
from datetime import timedelta

import pytest

from headroom.model.conditions import Finding, Truth
from headroom.model.frozen import FrozenMap
from headroom.model.replica import Role, format_incarnation
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.snapshot_need import SnapshotNeed, build_scene
from headroom.policy.replicaset.snapshot_report import describe_freshness
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    NOW,
    SERVER,
    make_claim,
    make_member,
    make_slot,
)
from tests.unit.policy.replicaset.snapshot_play import (
    AT,
    FLUSH,
    INCARNATION,
    MIB,
    SPARE,
    WHOLE,
    Play,
    anchor,
    begun,
    snapshot,
    source,
    stamps,
    standby,
)


@pytest.mark.parametrize(("seconds", "is_failed"), [(600.0, False), (661.0, True)])
@pytest.mark.parametrize("is_acting", [True, False])
def test_a_source_that_holds_back_vacuum_for_long_is_retired_also_in_a_paused_set(
    seconds: float, is_failed: bool, is_acting: bool
) -> None:
    held = source(slot=make_slot(is_active=False, has_xmin=True), slot_idle_seconds=seconds)
    play = Play(*WHOLE, held, anchors=(anchor(INCARNATION),), is_acting=is_acting)
    assert [entry.name for entry in play.plans()[0].retire] == (["store-2-a"] if is_failed else [])
    free = source(slot=make_slot(is_active=False), slot_idle_seconds=seconds)
    assert Play(*WHOLE, free, anchors=(anchor(INCARNATION),)).plans()[0].retire == ()


def test_a_source_goes_once_its_snapshot_is_cut_however_long_the_driver_uploads_it() -> None:
    """Block stores of clouds need minutes to hours for that, and the volume may change meanwhile."""
    cut = begun(INCARNATION, cut_at=NOW - timedelta(minutes=29), created_at=NOW - timedelta(minutes=30))
    play = Play(*WHOLE, source(), snapshots=(cut,), anchors=(anchor(INCARNATION),))
    assert [(entry.goes, entry.failure, entry.is_taken) for entry in play.steps.release] == [(True, None, True)]
    released = Play(*WHOLE, snapshots=(cut,), anchors=(anchor(INCARNATION),))
    assert (released.steps.delete, released.steps.drop, released.need.why) == ((), (), "")
    assert "taken, and not ready yet" in released.shown[2]
    late = replace(cut, created_at=NOW - timedelta(minutes=61))
    [removal] = Play(*WHOLE, snapshots=(late,), anchors=(anchor(INCARNATION),)).steps.delete
    assert (removal.why.reason, removal.is_failure) == (Reason.SNAPSHOT_NOT_READY, True)


def test_atomic_is_stamped_when_it_is_cut_and_only_once() -> None:
    first = stamps("b", consistency="Atomic", to_lsn=None)
    cut = begun("b", cut_at=NOW, stamps=first)
    steps = Play(*WHOLE, snapshots=(cut,), anchors=(anchor("b"),), wanted={"consistency": "Atomic"}).steps
    assert steps.stamp == ((cut.name, FLUSH),)
    again = replace(cut, stamps=replace(first, to_lsn=FLUSH))
    steps = Play(*WHOLE, snapshots=(again,), anchors=(anchor("b"),), wanted={"consistency": "Atomic"}).steps
    assert (steps.stamp, steps.delete) == ((), ())


def test_one_that_is_not_ready_is_waited_for_and_shown() -> None:
    found = (begun(INCARNATION, age=timedelta(minutes=9)),)
    play = Play(*WHOLE, source(), snapshots=found, anchors=(anchor(INCARNATION),))
    steps = play.steps
    assert (steps.release, steps.delete, steps.drop) == ((), (), ())
    assert play.shown[:2] == (Truth.FALSE, Reason.SNAPSHOT_PENDING)


def test_it_is_given_up_after_ten_minutes_with_what_the_driver_said() -> None:
    found = (begun(INCARNATION, age=timedelta(minutes=11), error="disk full\nretrying"),)
    play = Play(*WHOLE, source(), snapshots=found, anchors=(anchor(INCARNATION),))
    [removal] = play.steps.delete
    assert (removal.is_failure, removal.why.reason) == (True, Reason.SNAPSHOT_NOT_READY)
    assert "disk full retrying" in removal.why.message
    assert play.shown[1] is Reason.SNAPSHOT_FAILED


def test_a_source_is_given_back_while_its_snapshot_is_being_deleted() -> None:
    found = (begun(INCARNATION, is_deleting=True),)
    [release] = Play(*WHOLE, source(), snapshots=found, anchors=(anchor(INCARNATION),)).steps.release
    assert (release.goes, release.failure is not None) == (False, True)


def test_one_whose_source_runs_again_is_not_trusted() -> None:
    [removal] = Play(*WHOLE, snapshots=(begun(),), anchors=(anchor(),)).steps.delete
    assert removal.is_failure


def test_while_one_that_was_given_up_is_being_deleted_its_source_is_kept_for_the_next_attempt() -> None:
    """Else each attempt of a driver that is broken, and slow to delete, would cost a copy."""
    ending = begun(is_deleting=True)
    for members in (SPARE, (*WHOLE, make_member(Role.PROVISIONING, 2, within=0))):
        play = Play(*members, snapshots=(ending,), anchors=(anchor(),))
        plan, steps = play.plans()
        assert (plan.retire, plan.reserve) == ((), 0)
        assert (steps.choose, steps.reserves) == (None, False)
        assert "still being deleted" in play.shown[2]
    assert Play(*WHOLE, snapshots=(ending,), anchors=(anchor(),)).plans()[0].reserve == 0


def test_snapshots_leave_their_slots_to_replicas_that_the_spec_asks_for() -> None:
    """The oldest goes first, one after the other: a new replica starts from the newest."""
    old, new = snapshot("a", age=timedelta(minutes=9)), snapshot("b")
    both = {"snapshots": (old, new), "anchors": (anchor("a"), anchor("b"))}
    [removal] = Play(*WHOLE, **both, desired=2).with_server(slots_used=10).steps.delete
    assert removal.name == old.name
    assert "raise max_replication_slots" in removal.why.message
    assert not removal.is_failure
    read = make_member(Role.PROVISIONING, 3, within=0, pod=None, claim=make_claim(restored_from=old.name))
    [removal] = Play(*WHOLE, read, **both, desired=3).with_server(slots_used=10).steps.delete
    assert removal.name == new.name
    assert Play(*WHOLE, **both, desired=2).with_server(slots_used=9).steps.delete == ()
    assert Play(*WHOLE, **both).with_server(slots_used=10).steps.delete == ()
    going = {"snapshots": (replace(old, is_deleting=True), new), "anchors": both["anchors"]}
    assert Play(*WHOLE, **going, desired=2).with_server(slots_used=10).steps.delete == ()
    left = {"snapshots": (new,), "anchors": both["anchors"]}
    assert Play(*WHOLE, **left, desired=2).with_server(slots_used=10).steps.delete == ()


def test_while_one_is_being_deleted_no_other_is_begun() -> None:
    play = Play(*SPARE, snapshots=(begun(is_deleting=True),))
    assert not play.steps.reserves
    assert "still being deleted" in play.shown[2]


def test_atomic_is_taken_of_a_running_standby_and_stamped_once_it_is_ready() -> None:
    atomic = {"consistency": "Atomic"}
    plan, steps = Play(*WHOLE, anchors=(anchor(INCARNATION),), wanted=atomic).plans()
    assert plan.reserve == 0
    [taking] = steps.create
    assert (taking.member, taking.stamps.consistency, taking.stamps.to_lsn) == ("store-1-a", "Atomic", None)
    ready = snapshot(stamps=stamps(consistency="Atomic", to_lsn=None))
    steps = Play(*WHOLE, snapshots=(ready,), anchors=(anchor(),), wanted=atomic).steps
    assert steps.stamp == (("store-s-a", FLUSH),)
    assert steps.delete == ()


def test_the_newest_are_kept_and_none_that_a_member_starts_from_is_deleted() -> None:
    found = tuple(snapshot(name, age=timedelta(minutes=age)) for age, name in enumerate("abcd", 1))
    anchors = tuple(anchor(name) for name in "abcd")
    steps = Play(*WHOLE, snapshots=found, anchors=anchors).steps
    assert [entry.name for entry in steps.delete] == ["store-s-c", "store-s-d"]
    clone = make_member(Role.PROVISIONING, 3, within=0, pod=None, claim=make_claim(restored_from="store-s-d"))
    steps = Play(*WHOLE, clone, snapshots=found, anchors=anchors).steps
    assert [entry.name for entry in steps.delete] == ["store-s-c"]


def test_without_snapshots_in_the_spec_all_go() -> None:
    play = Play(*WHOLE, source(), snapshots=(snapshot(),), anchors=(anchor(), anchor("b"))).without_snapshots()
    steps = play.steps
    assert [entry.name for entry in steps.delete] == ["store-s-a"]
    assert [entry.name for entry in steps.drop] == [anchor("b").name]
    assert [entry.member for entry in steps.release] == ["store-2-a"]


# Anchors.


def test_an_anchor_is_dropped_unless_something_needs_it() -> None:
    anchors = (anchor("a"), anchor("b"), anchor("c"), anchor(INCARNATION))
    clone = make_member(Role.PROVISIONING, 3, within=0, pod=None, claim=make_claim(restored_from="store-s-b"))
    play = Play(*WHOLE, source(), clone, snapshots=(snapshot("a"),), anchors=anchors)
    assert [entry.name for entry in play.steps.drop] == [anchor("c").name]


def test_an_old_anchor_that_was_left_is_not_used_for_the_next() -> None:
    left = format_incarnation(NOW - timedelta(minutes=5))
    steps = Play(*SPARE, anchors=(anchor(left),)).steps
    assert steps.reserves
    assert [entry.name for entry in steps.drop] == [anchor(left).name]


@pytest.mark.parametrize("is_acting", [True, False])
def test_an_anchor_over_the_cap_goes_in_any_mode(is_acting: bool) -> None:
    old = anchor(lsn=FLUSH - 600 * MIB)
    steps = Play(*WHOLE, snapshots=(snapshot(),), anchors=(old,), is_acting=is_acting).steps
    [removal] = steps.drop
    assert removal.why.reason is Reason.WAL_CAP_REACHED
    assert "raise provisioning.maxSlotWAL" in removal.why.message


def giving_up(play: Play, setting: str | None) -> Play:
    """The same with a primary that gives up slots which nobody uses for so many seconds."""
    assert play.facts.primary is not None
    settings = {**SERVER.settings, **({"idle_replication_slot_timeout": setting} if setting is not None else {})}
    view = replace(play.facts.primary.view, server=replace(SERVER, settings=FrozenMap(settings)))
    play.facts = replace(play.facts, primary=replace(play.facts.primary, view=view))
    return play


@pytest.mark.parametrize(
    ("setting", "touched_at", "count"),
    [
        ("0", None, 0),
        (None, None, 0),
        ("3600", None, 1),
        ("3600", 941.0, 0),
        ("3600", 940.0, 1),
        ("60", 981.0, 0),
        ("60", 980.0, 1),
        ("1", 999.5, 1),
    ],
)
def test_anchors_are_touched_in_time_where_idle_slots_are_given_up(
    setting: str | None, touched_at: float | None, count: int
) -> None:
    """Within a third of the setting, and once a minute if that is longer."""
    play = Play(*WHOLE, snapshots=(snapshot(),), anchors=(anchor(),), memory=SetMemory(slots_touched_at=touched_at))
    assert len(giving_up(play, setting).steps.touch) == count


IDLE = make_slot(name="hr_idle", is_active=False)


@pytest.mark.parametrize(
    ("member", "is_touched"),
    [
        pytest.param(make_member(None, 2, slot=IDLE), True, id="reserved"),
        pytest.param(make_member(None, 2, slot=IDLE, claim=make_claim()), True, id="without a pod"),
        pytest.param(make_member(Role.PROVISIONING, 2, slot=IDLE), True, id="copied"),
        pytest.param(make_member(Role.PROVISIONING, 2, slot=replace(IDLE, is_active=True)), False, id="streams"),
        pytest.param(make_member(Role.PROVISIONING, 2, slot=replace(IDLE, wal_status="lost")), False, id="lost"),
        pytest.param(make_member(Role.PROVISIONING, 2, slot=None), False, id="no slot"),
        pytest.param(make_member(Role.STANDBY, 2, slot=IDLE), False, id="warm and away"),
        pytest.param(make_member(None, 2, slot=IDLE, claim=make_claim(retire=Reason.RETIRED)), False, id="goes"),
    ],
)
def test_slots_of_new_members_are_touched_and_those_of_members_that_went_away_are_not(
    member: Member, *, is_touched: bool
) -> None:
    play = giving_up(Play(*WHOLE, member), "60")
    assert play.steps.touch == (("hr_idle",) if is_touched else ())


def test_the_slot_of_a_member_that_is_stopped_for_a_snapshot_is_touched() -> None:
    play = giving_up(Play(*WHOLE, source(slot=IDLE), anchors=(anchor(INCARNATION),)), "60")
    assert play.steps.touch == (anchor(INCARNATION).name, "hr_idle")


def test_slots_of_members_that_do_not_stream_yet_or_are_stopped_are_touched_too() -> None:
    """A volume from a snapshot, or a copy from a standby, may take longer than a slot may be idle."""
    waiting = make_slot(name="hr_0123abcd_4567cdef_3_a", is_active=False)
    clone = make_member(Role.PROVISIONING, 3, within=0, pod=None, claim=make_claim(name="store-3-a"), slot=waiting)
    begun_only = replace(clone, claim=None, slot=replace(waiting, name="hr_0123abcd_4567cdef_4_a"))
    down = standby(1, slot=make_slot(name="hr_0123abcd_4567cdef_1_a", is_active=False))
    stopped = source(slot=make_slot(name="hr_0123abcd_4567cdef_2_a", is_active=False))
    play = Play(WHOLE[0], down, stopped, clone, begun_only).with_server(idle_replication_slot_timeout="300")
    assert set(play.steps.touch) == {f"hr_0123abcd_4567cdef_{ordinal}_a" for ordinal in (2, 3, 4)}


def test_without_the_primary_nothing_is_decided() -> None:
    play = Play(*SPARE)
    facts = replace(play.facts, primary=None, outage=Finding(Reason.PRIMARY_TIMEOUT, "no answer"))
    assert build_scene(play.spec, facts, play.members, play.memory, wal_cap=None, now=AT) is None
    shown = describe_freshness(play.spec, facts, None, SnapshotNeed())
    assert (shown.status, shown.finding.reason) == (Truth.UNKNOWN, Reason.PRIMARY_TIMEOUT)
