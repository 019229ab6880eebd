"""Who is cut off, on what evidence, and that a trouble of the primary never costs more than one copy."""

from datetime import timedelta
from typing import Any

import pytest

from headroom.model.database import Lsn
from headroom.model.replica import ContainerFacts, Role
from headroom.model.timelines import find_position
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.replay_lag import NotEligible
from headroom.policy.replicaset.stages import decide_stage
from headroom.policy.replicaset.stream_loss import find_stream_loss, find_streaming
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    NOW,
    UNKNOWN,
    context,
    make_member,
    make_pod,
    make_probe,
    make_slot,
    make_targets,
)

DOWN = NotEligible(Reason.NOT_STREAMING, "its WAL receiver is not connected")
HELD = make_probe(receive_lsn=Lsn(500), replay_lsn=Lsn(400))
KEPT, GONE = make_slot(restart_lsn=Lsn(500)), make_slot(restart_lsn=Lsn(501))


def broken(role: Role = Role.STANDBY, ordinal: int = 0, *, seconds: float = 900, **changes: Any) -> Member:
    """A member whose stream is down; its slot keeps what it needs unless told."""
    facts: dict[str, Any] = {"lag": DOWN, "within": 0, "broken_seconds": seconds, "probe": HELD, "slot": KEPT}
    return make_member(role, ordinal, **{**facts, **changes})


def reason_of(member: Member, *, has_witness: bool, flush_lsn: int | None = 10_000) -> Reason | None:
    wait = timedelta(seconds=30)
    found = find_stream_loss(member, has_witness=has_witness, flush_lsn=flush_lsn, longest_wait=wait)
    return found.reason if found else None


@pytest.mark.parametrize(
    ("member", "has_witness", "want"),
    [
        pytest.param(broken(slot=GONE, seconds=130), True, Reason.SLOT_LOST, id="WAL gone, others stream"),
        pytest.param(broken(slot=GONE, seconds=100), True, None, id="WAL gone, it may still try"),
        pytest.param(broken(slot=GONE, seconds=130), False, None, id="WAL gone, nobody streams: as after a failover"),
        pytest.param(broken(slot=GONE, seconds=700), False, Reason.SLOT_LOST, id="WAL gone for long, nobody streams"),
        pytest.param(broken(slot=None, seconds=130), True, None, id="no slot for a moment"),
        pytest.param(broken(seconds=590), True, None, id="WAL kept, others stream, not for long"),
        pytest.param(broken(seconds=610), True, Reason.NOT_STREAMING, id="WAL kept, others stream, for long"),
        pytest.param(broken(seconds=90_000), False, None, id="WAL kept, nobody streams: the primary's trouble"),
        pytest.param(
            broken(slot=GONE, probe=make_probe(receive_lsn=None, replay_lsn=Lsn(501))),
            False,
            None,
            id="restarted, replay is where the slot is",
        ),
        pytest.param(
            broken(slot=GONE, probe=make_probe(receive_lsn=Lsn(1), replay_lsn=Lsn(1), is_replay_paused=True)),
            True,
            None,
            id="replay paused by a person",
        ),
        pytest.param(broken(slot=GONE, seconds=0), True, None, id="behind its slot and on its way"),
    ],
)
def test_evidence_and_time_decide_together(member: Member, has_witness: bool, want: Reason | None) -> None:
    assert reason_of(member, has_witness=has_witness) is want


def test_wal_that_the_primary_never_wrote_is_evidence() -> None:
    assert reason_of(broken(seconds=130), has_witness=True, flush_lsn=499) is Reason.SLOT_LOST
    assert reason_of(broken(seconds=130), has_witness=True, flush_lsn=None) is None


def test_replay_that_may_wait_long_for_queries_is_given_that_time() -> None:
    wait = timedelta(minutes=5)
    facts: dict[str, Any] = {"has_witness": True, "flush_lsn": None, "longest_wait": wait}
    assert find_stream_loss(broken(slot=GONE, seconds=290), **facts) is None
    assert find_stream_loss(broken(slot=GONE, seconds=310), **facts) is not None


IDLE = make_slot(is_active=False, has_xmin=True, restart_lsn=Lsn(500))


def without_server(**changes: Any) -> Member:
    pod = make_pod(is_ready=False, phase="Pending", server=ContainerFacts(), unschedulable="0/3 nodes")
    return broken(pod=pod, lag=None, seconds=0, **{"slot": IDLE, "slot_idle_seconds": 310, **changes})


@pytest.mark.parametrize(
    ("member", "has_witness", "want"),
    [
        pytest.param(without_server(), True, Reason.NOT_STREAMING, id="no server, vacuum held back"),
        pytest.param(without_server(), False, None, id="nobody streams"),
        pytest.param(without_server(slot_idle_seconds=200), True, None, id="not for long"),
        pytest.param(without_server(slot=make_slot(is_active=False)), True, None, id="vacuum is free"),
        pytest.param(
            broken(seconds=0, lag=None, slot=IDLE, slot_idle_seconds=900), True, None, id="its server is starting"
        ),
        pytest.param(
            broken(seconds=310, slot=IDLE, slot_idle_seconds=310), True, Reason.NOT_STREAMING, id="runs and is broken"
        ),
        pytest.param(broken(seconds=310), True, None, id="without xmin it has longer"),
    ],
)
def test_an_unused_slot_must_not_hold_back_vacuum(member: Member, has_witness: bool, want: Reason | None) -> None:
    assert reason_of(member, has_witness=has_witness) is want


def test_only_a_measured_stream_is_a_witness() -> None:
    streams = make_member(Role.SERVING, 0)
    silent = make_member(Role.SERVING, 1, unanswered=1)
    blind = make_member(Role.SERVING, 2, lag=UNKNOWN)
    assert find_streaming([streams, silent, blind, broken(ordinal=3)]) == {streams.name}


def test_the_position_of_a_restarted_server_is_what_it_replayed() -> None:
    assert find_position(make_probe(receive_lsn=Lsn(16), replay_lsn=Lsn(20))) == 20
    assert find_position(make_probe(receive_lsn=None, replay_lsn=None)) is None
    assert find_position(None) is None


def plan_of(*found: Member, has_primary: bool = True, **changes: Any) -> Plan:
    near = context(has_primary=has_primary, streaming=find_streaming(found), flush_lsn=10_000)
    judged = [EvaluatedMember(member, decide_stage(member, near)) for member in found]
    return decide_plan(judged, make_targets(has_primary=has_primary, **changes), NOW)


def retired(plan: Plan) -> list[str]:
    return [entry.name for entry in plan.retire]


def test_a_standby_that_is_due_for_replacement_is_replaced() -> None:
    serving, standby = make_member(Role.SERVING, 0), broken(ordinal=1)
    plan = plan_of(serving, standby)
    assert retired(plan) == [standby.name]
    assert not plan.retire[0].is_failure
    assert plan.reserve == 1


def test_one_in_the_making_that_is_due_for_replacement_makes_room_for_the_next() -> None:
    serving, making = make_member(Role.SERVING, 0), broken(Role.PROVISIONING, 1)
    plan = plan_of(serving, making)
    assert retired(plan) == [making.name]
    assert plan.retire[0].is_failure
    assert plan_of(serving).reserve == 1


def test_they_are_replaced_one_at_a_time() -> None:
    serving, first, second = make_member(Role.SERVING, 0), broken(ordinal=1), broken(ordinal=2)
    assert retired(plan_of(serving, first, second, standbys=2)) == [first.name]
    making = make_member(Role.PROVISIONING, 3, within=0)
    assert retired(plan_of(serving, second, making, standbys=2)) == []
    assert retired(plan_of(serving, second, standbys=2)) == []
    assert retired(plan_of(serving, second, make_member(Role.STANDBY, 3), standbys=2)) == [second.name]


def test_a_trouble_that_all_share_costs_nothing() -> None:
    found = [broken(Role.SERVING, 0), broken(Role.SERVING, 1), broken(ordinal=2), broken(ordinal=3)]
    plan = plan_of(*found, desired=2, standbys=2)
    assert plan.is_empty


def test_where_nobody_streams_and_all_slots_were_made_again_one_copy_is_risked() -> None:
    found = [broken(Role.SERVING, 0, slot=GONE), broken(ordinal=1, slot=GONE), broken(ordinal=2, slot=GONE)]
    plan = plan_of(*found, standbys=2)
    assert retired(plan) == [found[1].name]
    assert plan.eject == ()
    assert retired(plan_of(found[0], found[2], standbys=2)) == []


@pytest.mark.parametrize("slot", [GONE, make_slot(wal_status="lost")])
def test_the_last_one_that_serves_stays_until_another_does(slot: Any) -> None:
    last = broken(Role.SERVING, 0, slot=slot)
    first = plan_of(last, standbys=0)
    assert (first.eject, first.retire, first.reserve) == ((), (), 1)
    making = make_member(Role.PROVISIONING, 1, within=0, lag=None)
    assert plan_of(last, making, standbys=0).is_empty
    almost = make_member(Role.STANDBY, 1, lag=None)
    assert plan_of(last, almost, standbys=0).is_empty
    ready = make_member(Role.STANDBY, 1)
    second = plan_of(last, ready, standbys=0)
    assert (second.activate, second.eject, second.reserve) == ((ready.name,), (), 0)
    third = plan_of(last, make_member(Role.SERVING, 1), standbys=0)
    assert [entry.name for entry in third.eject] == [last.name]
    assert third.reserve == 0


def test_a_member_that_cannot_be_replaced_now_is_kept() -> None:
    found = [make_member(Role.SERVING, 0), broken(ordinal=1)]
    assert plan_of(*found, may_replace=False, may_reserve=False).is_empty
    assert retired(plan_of(*found, may_reserve=False)) == [found[1].name]
    assert plan_of(*found, has_primary=False).is_empty
    assert plan_of(*found, is_acting=False).retire == ()


def test_a_drained_member_returns_to_a_pool_whose_standby_only_looks_warm() -> None:
    drained = make_member(Role.DRAINING, 2)
    plan = plan_of(make_member(Role.SERVING, 0), broken(ordinal=1, seconds=5), drained)
    assert plan.pool == (drained.name,)
