"""A member that is being made of a snapshot."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.api.v1alpha1.provisioning import Method
from headroom.model.conditions import Finding
from headroom.model.replica import ContainerFacts, MemberId, Role, Stage
from headroom.model.timelines import TimelineHistory
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.decide import decide
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.restores import ANY_COPY
from headroom.policy.replicaset.seed import check_pod, check_reach, check_seed, check_volume
from headroom.policy.replicaset.stages import decide_stage
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    NOW,
    context,
    make_claim,
    make_found,
    make_mark,
    make_member,
    make_pod,
    make_slot,
)
from tests.unit.policy.replicaset.snapshot_parts import (
    COPIED,
    FRESH,
    FROM,
    HERE,
    MOMENT,
    SNAPSHOT,
    STAMPS,
    facts_of,
    spec_of,
)

CLAIM = make_claim(is_bound=False, restored_from="store-s-1")


def restoring(pod: Any = None, **changes: Any) -> Member:
    facts = make_member(None, claim=CLAIM, restored=STAMPS, is_unread=True, slot=COPIED)
    return replace(facts, pod=pod, **changes)


def near(**changes: Any) -> Any:
    return context(position=make_mark(0.0, HERE), snapshots=frozenset({"store-s-1"}), **changes)


def test_one_that_can_follow_goes_on() -> None:
    assert check_reach(restoring(), near()) is None


@pytest.mark.parametrize(
    ("changes", "around", "says"),
    [
        ({"slot": None}, {}, "no slot on the primary keeps it any more"),
        ({"slot": FRESH}, {}, "no slot on the primary keeps it any more"),
        ({"slot": make_slot(restart_lsn=None)}, {}, "no slot on the primary keeps it any more"),
        ({}, {"position": make_mark(0.0, HERE, 2), "history": TimelineHistory(2, ((1, FROM),))}, "may have WAL up to"),
        ({"restored": replace(STAMPS, system_identifier="9")}, {}, "is of system 9"),
    ],
)
def test_one_that_cannot_is_given_up_before_its_server_runs(
    changes: dict[str, Any], around: dict[str, Any], says: str
) -> None:
    member = restoring(**changes)
    verdict = decide_stage(member, replace(near(), **around))
    assert (verdict.stage, verdict.reason, verdict.is_failed) == (Stage.SEEDED, Reason.SNAPSHOT_OUT_OF_REACH, True)
    assert says in verdict.message


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"is_unread": False}, id="its server has answered"),
        pytest.param({"pod": make_pod(Role.PROVISIONING)}, id="its volume is its own"),
        pytest.param({"pod": make_pod(Role.STANDBY, seed=ContainerFacts())}, id="a standby whose pod is made again"),
        pytest.param({"restored": None}, id="made by base backup"),
    ],
)
def test_the_slot_of_one_that_has_run_has_moved_on(changes: dict[str, Any]) -> None:
    assert check_reach(restoring(**{"slot": FRESH, **changes}), near()) is None


def test_nobody_is_given_up_while_the_primary_or_the_fork_is_not_known() -> None:
    assert check_reach(restoring(slot=None), context()) is None
    later = replace(near(), position=make_mark(0.0, HERE, 2))
    assert check_reach(restoring(), later) is None


@pytest.mark.parametrize(
    ("seconds", "snapshots", "want"),
    [
        (10, {"store-s-1"}, (Reason.IN_PROGRESS, False)),
        (10, set(), (Reason.IN_PROGRESS, False)),
        (60, {"store-s-1"}, (Reason.SEEDING, False)),
        (60, set(), (Reason.SNAPSHOT_GONE, True)),
        (60, None, (Reason.SEEDING, False)),
        (601, {"store-s-1"}, (Reason.RESTORE_STALLED, True)),
    ],
)
def test_a_volume_that_does_not_come_ends_the_attempt(
    seconds: int, snapshots: set[str] | None, want: tuple[Reason, bool]
) -> None:
    claim = replace(CLAIM, created_at=NOW - timedelta(seconds=seconds))
    around = replace(near(), snapshots=None if snapshots is None else frozenset(snapshots))
    verdict = check_volume(restoring(claim=claim), around)
    assert verdict is not None
    assert (verdict.reason, verdict.is_failed) == want


@pytest.mark.parametrize(("minutes", "is_failed"), [(9, False), (11, True)])
def test_the_time_until_a_node_was_added_is_not_the_drivers(minutes: int, is_failed: bool) -> None:
    """An autoscaler takes ten minutes for a node: the attempt must not end in the second in which that is there."""
    made, placed = NOW - timedelta(minutes=25), NOW - timedelta(minutes=minutes)
    pod = make_pod(Role.PROVISIONING, seed=ContainerFacts(), server=ContainerFacts(), created_at=made)
    member = restoring(pod=replace(pod, scheduled_at=placed), claim=replace(CLAIM, created_at=made))
    around = replace(near(), snapshots=frozenset({"store-s-1"}))
    verdict = check_volume(member, around)
    assert verdict is not None
    assert verdict.is_failed is is_failed
    bound = replace(member, claim=replace(CLAIM, created_at=made, is_bound=True))
    verdict = check_seed(bound, around)
    assert verdict is not None
    assert verdict.is_failed is is_failed


def test_a_deleted_snapshot_is_nothing_to_a_claim_that_has_its_volume() -> None:
    claim = replace(CLAIM, is_bound=True, created_at=NOW - timedelta(hours=1))
    assert check_volume(restoring(claim=claim), replace(near(), snapshots=frozenset())) is None


@pytest.mark.parametrize(("minutes", "is_failed"), [(9, False), (11, True)])
def test_a_volume_that_cannot_be_mounted_ends_the_attempt(minutes: int, is_failed: bool) -> None:
    created = NOW - timedelta(minutes=minutes)
    pod = make_pod(Role.PROVISIONING, seed=ContainerFacts(), server=ContainerFacts(), created_at=created)
    member = restoring(pod=pod, claim=replace(CLAIM, is_bound=True))
    assert check_pod(member, near()) is None
    verdict = check_seed(member, near())
    assert verdict is not None
    assert verdict.is_failed is is_failed
    waiting = replace(pod, seed=ContainerFacts(waiting="CreateContainerConfigError"))
    verdict = check_seed(replace(member, pod=waiting), near())
    assert verdict is not None
    assert not verdict.is_failed, "a missing Secret says nothing about the volume"
    other = check_seed(replace(member, claim=make_claim()), near())
    assert other is not None
    assert not other.is_failed, "without a snapshot there is no other source to try"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("seed: the snapshot is of PostgreSQL 15, the primary is 17", Reason.RESTORE_REFUSED),
        ("seed: pg_controldata cannot read the snapshot: its checksum is wrong", Reason.RESTORE_REFUSED),
        ("seed: the image has no pg_controldata", Reason.IMAGE_INCOMPLETE),
    ],
)
def test_what_the_seed_step_refuses_is_told_apart(said: str, reason: Reason) -> None:
    pod = make_pod(Role.PROVISIONING, seed=ContainerFacts(exit_code=3, message=said))
    verdict = check_seed(restoring(pod=pod), near())
    assert verdict is not None
    assert verdict.reason is reason
    assert said in verdict.message


def test_a_member_gets_its_choice_while_it_has_no_claim_only() -> None:
    slots = [replace(COPIED, name=f"hr_a_b_{each}_z") for each in (2, 3)]
    begun = make_found(2, pod=None, claim=None, slot=slots[0], slot_name=slots[0].name)
    claimed = make_found(3, pod=None, slot=slots[1], slot_name=slots[1].name)
    facts = replace(facts_of(), members=(begun, claimed))
    decision = decide(spec_of(), facts, SetMemory(), MOMENT).decision
    first, second = (member.facts.choice for member in decision.members)
    assert first is not None
    assert (first.snapshot, second) == (SNAPSHOT, None)
    assert decision.copies.begin.snapshot == SNAPSHOT
    assert ANY_COPY.wait is None


def test_where_the_method_is_fixed_and_nothing_fits_nobody_is_begun_and_a_slot_is_let_go() -> None:
    slot = replace(FRESH, name="hr_a_b_2_z")
    begun = make_found(2, pod=None, claim=None, slot=slot, slot_name=slot.name)
    facts = replace(facts_of(anchors=()), members=(begun,))
    decision = decide(spec_of("VolumeSnapshot"), facts, SetMemory(), MOMENT).decision
    assert decision.refusal is not None
    assert decision.refusal.reason is Reason.NO_SNAPSHOT_FITS
    assert decision.plan.reserve == 0
    assert [entry.name for entry in decision.plan.retire] == [MemberId(2, "a").object_name("store")]


def test_while_the_primary_does_not_answer_that_is_said_and_nothing_of_snapshots() -> None:
    outage = Finding(Reason.PRIMARY_UNREACHABLE, "nothing answers")
    decision = decide(spec_of("VolumeSnapshot"), facts_of(primary=None, outage=outage), SetMemory(), MOMENT).decision
    assert decision.refusal == outage
    assert (decision.copies.begin.method, decision.copies.begin.wait) == (Method.VOLUME_SNAPSHOT, None)


def test_limits_are_longer_than_what_is_normal() -> None:
    assert timeouts.CLAIM_NOTICE < timeouts.RESTORE_LIMIT < timeouts.PLACE_LIMIT
