"""When a snapshot is due, of whom it is taken, and what becomes of it, of its anchor and of its source."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding, Truth
from headroom.model.database import Lsn, SlotFacts
from headroom.model.frozen import FrozenMap
from headroom.model.moments import Moment
from headroom.model.replica import Role, format_incarnation
from headroom.model.snapshot import SnapshotClass, SnapshotFacts, Stamps
from headroom.model.timelines import TimelineHistory
from headroom.policy.replicaset.facts import SetFacts
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.restores import RestoreFailures
from headroom.policy.replicaset.snapshot_need import Scene, SnapshotNeed, build_scene, decide_need, may_come
from headroom.policy.replicaset.snapshot_report import describe_freshness
from headroom.policy.replicaset.snapshots import SnapshotPlan, decide_snapshots
from headroom.reasons import Reason
from tests.manifests import make_set
from tests.unit.policy.replicaset.make import (
    BEYOND,
    NOW,
    SERVER,
    SYSTEM,
    judge,
    make_claim,
    make_facts,
    make_mark,
    make_member,
    make_primary,
    make_probe,
    make_slot,
    make_targets,
)

MIB = 1024**2
FLUSH = Lsn(1024 * MIB)
INCARNATION = format_incarnation(NOW)
OLD_SYSTEM, ANOTHER = "2", "another server"
AT = Moment(1000.0, NOW)


def anchor(incarnation: str = "a", lsn: int = FLUSH - MIB, **changes: Any) -> SlotFacts:
    slot = make_slot(name=f"hr_0123abcd_4567cdef_s_{incarnation}", restart_lsn=Lsn(lsn), is_active=False)
    return replace(slot, **changes)


def stamps(incarnation: str = "a", **changes: Any) -> Stamps:
    known = Stamps(SYSTEM, 1, 17, "Stopped", "hr_a_b_2_a", anchor(incarnation).name, FLUSH, FLUSH)
    return replace(known, **changes)


def snapshot(incarnation: str = "a", *, age: timedelta = timedelta(minutes=1), **changes: Any) -> SnapshotFacts:
    facts = SnapshotFacts(
        f"store-s-{incarnation}", "u", "1", NOW - age, "store-2-a", is_ready=True, stamps=stamps(incarnation)
    )
    return replace(facts, **changes)


def begun(incarnation: str = "a", **changes: Any) -> SnapshotFacts:
    return snapshot(incarnation, **{"is_ready": False, **changes})


def standby(ordinal: int, **changes: Any) -> Member:
    member = make_member(Role.STANDBY, ordinal, probe=make_probe(receive_lsn=FLUSH, timeline=1), slot=make_slot())
    return replace(member, **changes)


def source(incarnation: str = INCARNATION, *, is_running: bool = False, **changes: Any) -> Member:
    """Member 2, stopped for a snapshot of this incarnation."""
    first = {**stamps(incarnation, to_lsn=None).format()}
    claim = make_claim(name="store-2-a", snapshot=f"store-s-{incarnation}", stamps=FrozenMap(first))
    member = standby(2, claim=claim, slot=make_slot(is_active=False))
    return replace(member if is_running else replace(member, pod=None, probe=None, lag=None), **changes)


WHOLE = (make_member(Role.SERVING, 0), standby(1))
SPARE = (*WHOLE, standby(2))


class Play:
    """One pass over members, snapshots and anchors."""

    def __init__(
        self,
        *members: Member,
        snapshots: tuple[SnapshotFacts, ...] | None = (),
        anchors: tuple[SlotFacts, ...] = (),
        wanted: dict[str, Any] | None = None,
        memory: SetMemory | None = None,
        timeline: int = 1,
        facts: dict[str, Any] | None = None,
        **targets: Any,
    ) -> None:
        parts = {"className": "csi-snap", "maxAge": "1h", "maxWALBehind": "100Mi", **(wanted or {})}
        body = make_set(provisioning={"snapshots": parts} if wanted is not None or wanted is None else {})
        body["spec"]["storage"] = {"size": "10Gi"}
        self.spec = parse_spec(ReplicaSetSpec, body)
        primary = replace(make_primary(timeline=timeline), marks=(replace(make_mark(0.0, FLUSH, timeline)),))
        self.facts: SetFacts = replace(
            make_facts(), primary=primary, snapshots=snapshots, anchors=anchors, **(facts or {})
        )
        self.members = judge(*members)
        self.memory = memory or SetMemory(began_at=0.0)
        self.targets = make_targets(**targets)

    def without_snapshots(self) -> "Play":
        body = make_set()
        self.spec = parse_spec(ReplicaSetSpec, body)
        return self

    def with_server(self, slots_used: int = 0, **settings: str) -> "Play":
        """With so many slots in use on the primary, and these settings of it."""
        assert self.facts.primary is not None
        server = replace(SERVER, slots_used=slots_used, settings={**SERVER.settings, **settings})
        view = replace(self.facts.primary.view, server=server)
        self.facts = replace(self.facts, primary=replace(self.facts.primary, view=view))
        return self

    @property
    def scene(self) -> Scene:
        found = build_scene(self.spec, self.facts, self.members, self.memory, wal_cap=512 * MIB, now=AT)
        assert found is not None
        return found

    @property
    def need(self) -> SnapshotNeed:
        return decide_need(self.scene, self.targets)

    def plans(self) -> tuple[Plan, SnapshotPlan]:
        need = self.need
        targets = replace(self.targets, keeps_one_more=need.keeps_one_more, begins_one_more=need.begins_one_more)
        plan = decide_plan(self.members, targets, NOW)
        return plan, decide_snapshots(self.scene, need, plan, targets)

    @property
    def steps(self) -> SnapshotPlan:
        return self.plans()[1]

    @property
    def shown(self) -> tuple[Truth, Reason, str]:
        found = describe_freshness(self.spec, self.facts, self.scene, self.need)
        return found.status, found.finding.reason, found.finding.message


# When one is due.


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


# The source.


def test_first_the_anchor_then_the_source() -> None:
    assert Play(*SPARE).steps.reserves
    steps = Play(*SPARE, anchors=(anchor(INCARNATION),)).steps
    assert not steps.reserves
    assert steps.drop == ()
    assert steps.choose is not None
    assert (steps.choose.member, steps.choose.snapshot) == ("store-2-a", f"store-s-{INCARNATION}")
    known = steps.choose.stamps
    assert (known.from_lsn, known.to_lsn, known.anchor) == (FLUSH, None, anchor(INCARNATION).name)
    assert (known.system_identifier, known.timeline, known.major) == (SYSTEM, 1, 17)


@pytest.mark.parametrize(("kept", "fits"), [(256, True), (257, False), (600, False)])
def test_an_anchor_that_keeps_too_much_from_the_beginning_ends_the_attempt(kept: int, fits: bool) -> None:
    """It begins where the primary's last checkpoint did, and the cap is 512 MiB."""
    wide = anchor(INCARNATION, lsn=FLUSH - kept * MIB)
    for wanted in ({}, {"consistency": "Atomic"}):
        steps = Play(*SPARE, anchors=(wide,), wanted=wanted).steps
        assert bool(steps.choose or steps.create) is fits
        assert (steps.failure is None) is fits
        assert not steps.reserves
        if not fits:
            assert {entry.name for entry in steps.drop} == {wide.name}
            assert steps.failure is not None
            assert "raise provisioning.maxSlotWAL" in steps.failure.message


@pytest.mark.parametrize(
    "changes",
    [
        {"probe": make_probe(receive_lsn=Lsn(FLUSH - 2 * MIB), timeline=1)},
        {"probe": make_probe(receive_lsn=None, timeline=1)},
    ],
)
def test_a_source_that_has_not_received_what_the_anchor_keeps_is_waited_for(changes: dict[str, Any]) -> None:
    steps = Play(*WHOLE, standby(2, **changes), anchors=(anchor(INCARNATION),)).steps
    assert (steps.choose, steps.drop) == (None, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"probe": make_probe(receive_lsn=FLUSH, timeline=2)},
        {"probe": make_probe(receive_lsn=FLUSH, timeline=1, is_streaming=False)},
        {"unanswered": 1},
        {"lag": None},
        {"slot": None},
        {"claim": make_claim(name="store-1-a", is_bound=False)},
    ],
)
def test_only_a_standby_that_streams_is_a_source(changes: dict[str, Any]) -> None:
    members = [replace(standby(ordinal), **changes) for ordinal in (1, 2)]
    assert Play(make_member(Role.SERVING, 0), *members, anchors=(anchor(INCARNATION),)).steps.choose is None


def test_never_one_that_serves_and_never_one_that_is_asked_for() -> None:
    steps = Play(*WHOLE, anchors=(anchor(INCARNATION),)).steps
    assert (steps.choose, steps.reserves) == (None, False)
    alone = Play(make_member(Role.SERVING, 0), standby(1), anchors=(anchor(INCARNATION),), standbys=0).steps
    assert alone.choose is not None
    assert alone.choose.member == "store-1-a"


def test_none_is_stopped_while_another_is_recreated() -> None:
    old = standby(1)
    assert old.pod is not None
    members = (make_member(Role.SERVING, 0), replace(old, pod=replace(old.pod, template="old")), standby(2))
    plan, steps = Play(*members, anchors=(anchor(INCARNATION),)).plans()
    assert (plan.recreate, steps.choose) == (("store-1-a",), None)


def test_a_stopped_source_is_neither_a_standby_nor_missing() -> None:
    play = Play(*WHOLE, source(), anchors=(anchor(INCARNATION),))
    plan, steps = play.plans()
    assert plan.is_empty
    assert steps.release == ()
    assert play.members[2].verdict.reason is Reason.SNAPSHOT_SOURCE


def test_its_pod_goes_first_then_the_object_comes_with_the_end_of_its_wal() -> None:
    anchors = (anchor(INCARNATION),)
    running = Play(*WHOLE, source(is_running=True), anchors=anchors).steps
    assert (running.stop, running.create) == (("store-2-a",), ())
    in_use = Play(*WHOLE, source(slot=make_slot(is_active=True)), anchors=anchors).steps
    assert (in_use.stop, in_use.create) == ((), ())
    [taking] = Play(*WHOLE, source(), anchors=anchors).steps.create
    assert (taking.member, taking.snapshot) == ("store-2-a", f"store-s-{INCARNATION}")
    assert taking.stamps == stamps(INCARNATION)


def test_a_source_goes_once_its_snapshot_is_whole_and_stays_if_the_set_is_short() -> None:
    found = (snapshot(INCARNATION),)
    [release] = Play(*WHOLE, source(), snapshots=found, anchors=(anchor(INCARNATION),)).steps.release
    assert (release.goes, release.is_taken, release.failure) == (True, True, None)
    play = Play(WHOLE[0], source(), snapshots=found, anchors=(anchor(INCARNATION),))
    [release] = play.steps.release
    assert (release.goes, release.is_taken) == (False, True)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"anchors": ()}, "its anchor is gone"),
        ({"timeline": 2}, "a failover came between"),
        ({"memory": SetMemory().record_snapshot(Finding(Reason.QUOTA_EXCEEDED, ""), 999.0)}, "it was just refused"),
        ({"snapshots": None}, "the kind is gone"),
    ],
)
def test_a_source_starts_again_if_its_snapshot_is_not_to_be_taken(changes: dict[str, Any], what: str) -> None:
    changes = {"anchors": (anchor(INCARNATION),), **changes}
    steps = Play(*WHOLE, source(), **changes).steps
    [release] = steps.release
    assert (release.member, release.goes, release.failure) == ("store-2-a", False, None), what
    assert steps.create == ()


def test_a_source_starts_again_if_the_set_gets_short_before_its_snapshot_is_begun() -> None:
    [release] = Play(WHOLE[0], source(), anchors=(anchor(INCARNATION),)).steps.release
    assert not release.goes
    running = Play(WHOLE[0], standby(1, lag=BEYOND), source(is_running=True), anchors=(anchor(INCARNATION),)).steps
    assert [entry.member for entry in running.release] == ["store-2-a"]
    assert running.stop == ()


@pytest.mark.parametrize("minutes", [10, 12])
def test_a_source_that_cannot_be_stopped_in_time_starts_again(minutes: int) -> None:
    """Ten minutes, and as long as the sessions of a pod may take to end."""
    since = format_incarnation(NOW - timedelta(minutes=minutes))
    steps = Play(*WHOLE, source(since, slot=make_slot(is_active=True)), anchors=(anchor(since),)).steps
    failures = [entry.failure for entry in steps.release if entry.failure is not None]
    assert [failure.reason for failure in failures] == ([Reason.SNAPSHOT_FAILED] if minutes > 11 else [])


def test_a_source_whose_pod_outlives_its_end_starts_again_with_the_node_named() -> None:
    running = source(is_running=True)
    assert running.pod is not None
    pod = replace(running.pod, is_deleting=True, ends_at=NOW - timedelta(seconds=61), node="node-7")
    [release] = Play(*WHOLE, replace(running, pod=pod), anchors=(anchor(INCARNATION),)).steps.release
    assert release.failure is not None
    assert "check node node-7" in release.failure.message


def test_a_source_whose_slot_keeps_too_much_is_retired_and_is_no_failed_attempt() -> None:
    held = make_slot(is_active=False, wal_status="lost")
    plan, steps = Play(*WHOLE, source(slot=held), anchors=(anchor(INCARNATION),)).plans()
    [retirement] = plan.retire
    assert (retirement.name, retirement.is_failure) == ("store-2-a", False)
    assert steps.release == ()


# The object.


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
