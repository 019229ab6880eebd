"""When a snapshot is due, which one can be restored, and when the set needs one member more for the next."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.api.v1alpha1.common import Mode
from headroom.model.conditions import Finding, Truth
from headroom.model.database import Lsn
from headroom.model.replica import Role
from headroom.model.snapshot import SnapshotClass, SnapshotFacts
from headroom.model.timelines import TimelineHistory
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.restores import RestoreFailures
from headroom.policy.replicaset.snapshot_need import may_come
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BEYOND,
    SERVER,
    make_claim,
    make_member,
)
from tests.unit.policy.replicaset.snapshot_play import (
    AT,
    FLUSH,
    INCARNATION,
    MIB,
    OLD_SYSTEM,
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


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (snapshot(age=timedelta(minutes=47)), ""),
        (snapshot(age=timedelta(minutes=49)), "49 min old"),
        (snapshot(stamps=stamps(from_lsn=Lsn(FLUSH - 79 * MIB))), ""),
        (snapshot(stamps=stamps(from_lsn=Lsn(FLUSH - 81 * MIB))), "81 MiB of WAL behind"),
    ],
)
def test_another_is_due_at_four_fifths_of_each_bound(found: SnapshotFacts, why: str) -> None:
    need = Play(*WHOLE, snapshots=(found,), anchors=(anchor(lsn=FLUSH - 90 * MIB),)).need
    assert why in need.why
    assert bool(need.why) is bool(why)


def test_it_is_still_fresh_while_the_next_one_is_due() -> None:
    play = Play(*WHOLE, snapshots=(snapshot(age=timedelta(minutes=55)),), anchors=(anchor(),))
    assert play.need.why
    assert play.shown[:2] == (Truth.TRUE, Reason.AS_EXPECTED)
    late = Play(*WHOLE, snapshots=(snapshot(age=timedelta(minutes=61)),), anchors=(anchor(),))
    assert late.shown[:2] == (Truth.FALSE, Reason.SNAPSHOT_PENDING)


def test_thirty_percent_of_a_small_volume_are_the_bound() -> None:
    behind = snapshot(stamps=stamps(from_lsn=Lsn(FLUSH - 350 * MIB)))
    wide = {"maxWALBehind": "4Gi"}
    play = Play(*WHOLE, snapshots=(behind,), anchors=(anchor(lsn=FLUSH - 360 * MIB),), wanted=wide)
    assert not play.need.why, "10 GiB: 3 GiB"
    play.spec = play.spec.model_copy(update={"storage": play.spec.storage.model_copy(update={"size": 1024 * MIB})})
    assert "350 MiB" in play.need.why


def test_an_anchor_that_will_soon_keep_too_much_makes_it_due() -> None:
    old = anchor(lsn=FLUSH - 450 * MIB)
    assert "keeps 450 MiB" in Play(*WHOLE, snapshots=(snapshot(),), anchors=(old,)).need.why


def test_one_fresh_snapshot_is_enough_whichever_it_is() -> None:
    both = (snapshot("b", stamps=stamps("b", from_lsn=Lsn(FLUSH - 95 * MIB))), snapshot("a"))
    assert not Play(*WHOLE, snapshots=both, anchors=(anchor("a"), anchor("b"))).need.why


# Who can be restored.


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"system_identifier": OLD_SYSTEM}, f"is of system {OLD_SYSTEM}"),
        ({"consistency": "Fuzzy"}, "does not know: Fuzzy"),
        ({"major": 16}, "PostgreSQL 16"),
        ({"anchor": "hr_0123abcd_4567cdef_s_gone"}, "is gone"),
        ({"timeline": 2}, "timeline 2"),
    ],
)
def test_what_nobody_can_start_from_is_deleted(changes: dict[str, Any], why: str) -> None:
    play = Play(*WHOLE, snapshots=(snapshot(stamps=stamps(**changes)),), anchors=(anchor(),))
    [removal] = play.steps.delete
    assert why in removal.why.message
    assert not removal.is_failure
    assert play.need.why == "there is none"


def test_one_that_needs_a_larger_volume_than_claims_may_have_is_not_fresh_and_no_other_is_taken() -> None:
    """The next one would be as large: it is for a person to say that claims may be."""
    large = snapshot(size=300 * 1024**3)
    play = Play(*SPARE, snapshots=(large,), anchors=(anchor(),))
    assert (play.steps.delete, play.steps.choose, play.need.is_open) == ((), None, False)
    assert play.need.problem is not None
    assert play.need.problem.reason is Reason.NO_SNAPSHOT_FITS
    assert "needs a volume of 300 GiB, and storage.size is" in play.need.problem.message
    assert play.shown[:2] == (Truth.FALSE, Reason.NO_SNAPSHOT_FITS)


@pytest.mark.parametrize(
    ("history", "usable", "undecided", "unusable"),
    [
        (None, 0, 1, 0),
        (TimelineHistory(2, ((1, Lsn(FLUSH)),)), 1, 0, 0),
        (TimelineHistory(2, ((1, Lsn(FLUSH - 1)),)), 0, 0, 1),
        (TimelineHistory(2, ()), 0, 0, 1),
    ],
)
def test_a_later_timeline_is_reached_if_it_forked_off_after_all_that_the_volume_has(
    history: TimelineHistory | None, usable: int, undecided: int, unusable: int
) -> None:
    memory = SetMemory(history=history, timeline=2)
    state = Play(*WHOLE, snapshots=(snapshot(),), anchors=(anchor(),), timeline=2, memory=memory).scene.state
    assert (len(state.usable), len(state.undecided), len(state.unusable)) == (usable, undecided, unusable)


def test_one_with_an_anchor_whose_wal_is_lost_is_of_no_use() -> None:
    play = Play(*WHOLE, snapshots=(snapshot(),), anchors=(anchor(wal_status="lost"),))
    assert [entry.name for entry in play.steps.delete] == ["store-s-a"]


def test_one_whose_anchor_was_moved_on_is_of_no_use_and_another_is_due() -> None:
    """As by a failover manager that copies slots, each further than it was, to the new primary."""
    play = Play(*WHOLE, snapshots=(snapshot(),), anchors=(anchor(lsn=FLUSH + 1),))
    assert [entry.name for entry in play.steps.delete] == ["store-s-a"]
    assert play.shown[0] is Truth.FALSE
    assert play.need.why


# One member more.


def test_a_due_snapshot_begins_one_member_more() -> None:
    play = Play(*WHOLE)
    plan, steps = play.plans()
    assert (plan.reserve, steps.reserves, steps.choose) == (1, False, None)


def test_before_and_once_that_member_is_there_the_set_says_what_it_is_for() -> None:
    for members in (WHOLE, SPARE):
        said = "none was taken yet; it is taken of a member more than the spec asks for, which goes when it is ready"
        assert Play(*members).shown[1:] == (Reason.SNAPSHOT_PENDING, said)


def test_a_fresh_snapshot_begins_none() -> None:
    plan, _ = Play(*WHOLE, snapshots=(snapshot(),), anchors=(anchor(),)).plans()
    assert plan.reserve == 0
    assert not plan.retire


def test_one_that_is_there_is_kept_while_a_snapshot_is_due_and_goes_otherwise() -> None:
    plan, _ = Play(*SPARE).plans()
    assert not plan.retire
    plan, _ = Play(*SPARE, snapshots=(snapshot(),), anchors=(anchor(),)).plans()
    assert [entry.name for entry in plan.retire] == ["store-2-a"]


@pytest.mark.parametrize(
    ("changes", "is_deleted"),
    [
        ({"class_name": "csi-snap"}, False),
        ({"class_name": "csi-slow"}, True),
        ({"class_name": "csi-slow", "is_ready": True}, False),
        ({"class_name": ""}, False),
    ],
)
def test_one_that_is_not_ready_goes_when_the_spec_names_another_class(
    changes: dict[str, Any], *, is_deleted: bool
) -> None:
    steps = Play(*WHOLE, source(), snapshots=(begun(INCARNATION, **changes),), anchors=(anchor(INCARNATION),)).steps
    assert [(entry.name, entry.is_failure) for entry in steps.delete] == (
        [(f"store-s-{INCARNATION}", False)] if is_deleted else []
    )
    assert all("className is csi-snap now" in entry.why.message for entry in steps.delete)


NEW = make_member(Role.PROVISIONING, 2, within=0)


@pytest.mark.parametrize(
    ("members", "wait"),
    [
        ((make_member(Role.SERVING, 0), standby(1, lag=BEYOND)), "fewer replicas are fit"),
        ((*WHOLE, NEW), "store-2-a is being created"),
        ((*WHOLE, make_member(Role.DRAINING, 2)), "store-2-a drains"),
        ((make_member(Role.SERVING, 0), standby(1, behind_seconds=5.0)), "a failover is under way"),
        ((make_member(Role.SERVING, 0, activating_seconds=0.5), standby(1)), "on its way into the Service"),
        ((make_member(Role.SERVING, 0),), "fewer replicas are fit"),
    ],
)
def test_nothing_begins_while_the_set_has_something_else_to_do(members: tuple[Member, ...], wait: str) -> None:
    play = Play(*members)
    assert wait in play.need.wait
    assert not play.need.begins_one_more
    steps = play.steps
    assert (steps.reserves, steps.choose, steps.create) == (False, None, ())
    assert wait in play.shown[2]


def test_what_a_member_has_made_of_a_copy_is_not_thrown_away_for_a_blip_of_another() -> None:
    plan, _ = Play(make_member(Role.SERVING, 0), standby(1, lag=BEYOND), NEW).plans()
    assert not plan.retire


def test_a_member_that_nobody_asked_for_takes_the_place_of_one_that_is_replaced() -> None:
    """Else no other would be begun for it, as long as snapshots fail."""
    leaving = standby(1, claim=make_claim(name="store-1-a", is_deleting=True))
    play = Play(make_member(Role.SERVING, 0), leaving, standby(2))
    assert play.members[1].verdict.is_due_for_replacement
    assert not play.need.keeps_one_more
    plan, steps = play.plans()
    assert "store-1-a" in [entry.name for entry in plan.retire]
    assert (plan.reserve, steps.choose, steps.reserves) == (0, None, False)


@pytest.mark.parametrize("mode", [Mode.PAUSED, Mode.DRY_RUN])
def test_a_set_that_does_not_act_begins_none(mode: Mode) -> None:
    play = Play(*SPARE, anchors=(anchor(),), is_acting=False)
    play.spec = play.spec.model_copy(update={"mode": mode})
    steps = play.steps
    assert (steps.reserves, steps.choose, steps.drop) == (False, None, ())
    assert play.shown[1] in (Reason.PAUSED, Reason.DRY_RUN)


def test_while_no_member_can_be_begun_that_is_said_and_one_that_is_there_is_taken() -> None:
    waiting = Play(*WHOLE, obstacle="its copy waits", may_reserve=False)
    assert (waiting.need.wait, waiting.need.begins_one_more) == ("no member more is begun: its copy waits", False)
    assert waiting.shown[2].endswith("it waits, since no member more is begun: its copy waits")
    assert Play(*SPARE, obstacle="its copy waits").need.is_open
    assert Play(*WHOLE, obstacle="its copy waits", wanted={"consistency": "Atomic"}).need.is_open


@pytest.mark.parametrize(
    ("play", "may"),
    [
        pytest.param(Play(*WHOLE), False, id="nobody to spare"),
        pytest.param(Play(*SPARE), True, id="one to spare"),
        pytest.param(Play(*WHOLE, source(), snapshots=(begun(INCARNATION),)), True, id="under way"),
        pytest.param(Play(*WHOLE, wanted={"consistency": "Atomic"}), True, id="of one that runs"),
        pytest.param(Play(WHOLE[0], standbys=0, wanted={"consistency": "Atomic"}), False, id="no standby"),
        pytest.param(Play(*SPARE, snapshots=None), False, id="not served"),
        pytest.param(Play(*SPARE).without_snapshots(), False, id="not wanted"),
    ],
)
def test_whether_a_snapshot_can_come_although_no_member_can_be_begun(play: Play, may: bool) -> None:
    assert may_come(play.scene, play.need, play.targets) is may


def test_one_that_is_not_restored_any_more_is_not_fresh_and_the_next_one_is_due() -> None:
    barred = RestoreFailures(barred=frozenset({"store-s-a"}))
    play = Play(*WHOLE, snapshots=(snapshot(),), anchors=(anchor(),), memory=SetMemory(restore_failures=barred))
    assert play.need.why == "store-s-a was there when two restores in a row had failed"
    assert play.shown[0] is Truth.FALSE
    assert play.steps.delete == (), "it is kept until there is another"


def test_a_failed_one_is_waited_out_and_its_member_kept() -> None:
    failed = SetMemory().record_snapshot(Finding(Reason.SNAPSHOT_FAILED, "no space"), 995.0)
    play = Play(*SPARE, memory=failed)
    plan, steps = play.plans()
    assert (plan.retire, steps.reserves, steps.choose) == ((), False, None)
    assert play.shown == (Truth.FALSE, Reason.SNAPSHOT_FAILED, "no space")
    again = Play(*SPARE, memory=SetMemory().record_snapshot(Finding(Reason.SNAPSHOT_FAILED, ""), 985.0))
    assert again.steps.reserves


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 40), (7, 600), (50, 600)])
def test_the_pause_doubles_up_to_ten_minutes(failures: int, seconds: int) -> None:
    memory = SetMemory()
    for _ in range(failures):
        memory = memory.record_snapshot(Finding(Reason.SNAPSHOT_FAILED, ""), AT.monotonic - seconds + 1)
    assert Play(*SPARE, memory=memory).scene.is_backing_off
    earlier = replace(memory, snapshot_attempts=replace(memory.snapshot_attempts, failed_at=AT.monotonic - seconds))
    assert not Play(*SPARE, memory=earlier).scene.is_backing_off


def test_without_slots_for_it_none_is_begun_and_how_many_are_needed_is_said() -> None:
    full = replace(SERVER, slots_used=9)
    play = Play(*WHOLE)
    assert play.facts.primary is not None
    view = replace(play.facts.primary.view, server=full)
    play.facts = replace(play.facts, primary=replace(play.facts.primary, view=view))
    assert play.plans()[0].reserve == 0
    status, reason, message = play.shown
    assert (status, reason) == (Truth.FALSE, Reason.SLOTS_EXHAUSTED)
    assert "max_replication_slots = 11" in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"snapshots": None}, Reason.SNAPSHOTS_NOT_SERVED),
        ({"facts": {"snapshot_class": Finding(Reason.SNAPSHOT_CLASS_NOT_FOUND, "")}}, Reason.SNAPSHOT_CLASS_NOT_FOUND),
        ({"facts": {"snapshot_class": SnapshotClass("csi-snap", "other")}}, Reason.SNAPSHOT_CLASS_MISMATCH),
    ],
)
def test_what_only_a_person_can_correct_costs_no_member(changes: dict[str, Any], reason: Reason) -> None:
    owned = make_claim(name="store-1-a", provisioner="csi.example.com")
    play = Play(make_member(Role.SERVING, 0), standby(1, claim=owned), standby(2), **changes)
    plan, steps = play.plans()
    assert [entry.name for entry in plan.retire] == ["store-2-a"]
    assert (steps.reserves, steps.choose) == (False, None)
    assert play.shown[:2] == (Truth.FALSE, reason)
