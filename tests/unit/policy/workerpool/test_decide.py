"""The whole decision: pure values in and out, modes, targets, schedules, and what a new process may say."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.conditions import Finding
from headroom.model.database import Allocation
from headroom.policy.target_conflict import AutoscalerClaim
from headroom.policy.workerpool import (
    ForeignWrites,
    Move,
    PoolDecision,
    PoolFacts,
    PoolMemory,
    Rule,
    Verdict,
    decide,
    lead_time,
)
from headroom.policy.workerpool.constants import DEFAULT_LEAD_SECONDS, PROBE_SECONDS, URGENT_PROBE_SECONDS
from headroom.policy.workerpool.memory import Wants
from headroom.reasons import Reason
from tests.unit.policy.purity import find_impure
from tests.unit.policy.workerpool.make import (
    DEPLOYMENT,
    GAP,
    GUARD_GAP,
    NOW,
    OWN,
    make_facts,
    make_sample,
    make_spec,
    make_target,
    make_view,
    moment,
    scaling_of,
    sizing_of,
)
from tests.unit.policy.workerpool.strategies import facts, memories, specs

CRON_JOB = {"suspendRef": {"apiVersion": "batch/v1", "kind": "CronJob", "name": "cohorts"}}
GUARDED = {"databaseRef": {"name": "store"}}
MISSING = Finding(Reason.TARGET_NOT_FOUND, "there is no deployment/mailer")
LATE = {"lag_seconds": 100.0, "backlog": 6000, "late": 6000}


def decide_once(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory | None = None, at: float = NOW
) -> tuple[PoolDecision, PoolMemory]:
    outcome = decide(spec, seen, memory or PoolMemory(), moment(at))
    return outcome.decision, outcome.memory


def test_facts_memory_and_decision_are_values_without_handles() -> None:
    assert find_impure(PoolFacts, PoolMemory, PoolDecision) == []


@settings(max_examples=40)
@given(specs(), facts(), memories())
def test_a_deep_copy_decides_the_same_and_nothing_that_was_passed_in_changes(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory
) -> None:
    seen = replace(seen, database=make_view(allocation=Allocation(7, 20, 3)), has_guard=True)
    before = copy.deepcopy((spec, seen, memory))
    first = decide(spec, seen, memory, moment(NOW))
    again = decide(*copy.deepcopy((spec, seen, memory)), moment(NOW))
    assert first == again
    assert copy.deepcopy(first) == first
    assert (spec, seen, memory) == before


@given(specs(), facts(), memories())
def test_a_mode_changes_nothing_of_what_would_be_allowed(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory
) -> None:
    decisions = [
        scaling_of(decide_once(spec.model_copy(update={"mode": mode}), seen, memory)[0])
        for mode in ("Active", "DryRun", "Paused")
    ]
    assert decisions[0] == decisions[1] == decisions[2]


@pytest.mark.parametrize(("mode", "expected"), [("Active", (NOW,)), ("DryRun", ()), ("Paused", ())])
def test_only_an_active_pool_counts_what_others_write(mode: str, expected: tuple[float, ...]) -> None:
    memory = PoolMemory(foreign=ForeignWrites(written=9, written_at=NOW - 10))
    _, after = decide_once(make_spec(mode=mode), make_facts(5), memory)
    assert after.foreign.seen_at == expected
    assert after.foreign.written == (5 if mode == "Active" else None)


def test_a_pause_ends_a_hold_since_a_person_scales_by_right() -> None:
    memory = PoolMemory(foreign=ForeignWrites(written=5, hold_until=NOW + 300))
    held, kept = decide_once(make_spec(), make_facts(5), memory)
    assert scaling_of(held).limit is Rule.TARGET_CONFLICT
    paused, after = decide_once(make_spec(mode="Paused"), make_facts(5), kept)
    assert scaling_of(paused).limit is not Rule.TARGET_CONFLICT
    assert after.foreign == ForeignWrites()


def test_an_autoscaler_ends_the_chain_even_without_a_sample() -> None:
    claims = (AutoscalerClaim("mailer-hpa", DEPLOYMENT),)
    decision, _ = decide_once(make_spec(), make_facts(50, signal=GAP, autoscalers=claims))
    assert (scaling_of(decision).allowed, scaling_of(decision).limit) == (50, Rule.TARGET_CONFLICT)


def test_another_target_begins_with_nothing_of_the_old_one() -> None:
    old = PoolMemory(
        target_uid="uid-old",
        wants=Wants().add(NOW - 100, 30, 300.0),
        moves=(Move(NOW - 100, 2, 8),),
        foreign=ForeignWrites(written=8, written_at=NOW - 100),
        last_good_rate=2.0,
        lead_seconds=4.0,
    )
    decision, memory = decide_once(make_spec(), make_facts(5, target=make_target(5, lead=None)), old)
    assert memory.target_uid == "uid-target"
    assert memory.moves == ()
    assert memory.foreign == ForeignWrites(written=5)
    assert memory.wants.peak() < 30
    assert memory.last_good_rate == 2.0, "what a job takes is of the queue"
    assert memory.lead_seconds == 4.0, "until a start of the new target was seen"
    assert scaling_of(decision).limit is not Rule.TARGET_CONFLICT


def test_the_same_target_keeps_what_is_known() -> None:
    moves = (Move(NOW - 100, 2, 5),)
    _, memory = decide_once(make_spec(), make_facts(5), PoolMemory(target_uid="uid-target", moves=moves))
    assert memory.moves == moves


@pytest.mark.parametrize(
    ("known", "measured", "expected"),
    [(None, None, DEFAULT_LEAD_SECONDS), (7.0, None, 7.0), (7.0, 12.0, 12.0), (None, 12.0, 12.0)],
)
def test_the_lead_time_is_the_last_that_was_measured(
    known: float | None, measured: float | None, expected: float
) -> None:
    seen = make_facts(target=make_target(5, lead=measured))
    decision, memory = decide_once(make_spec(), seen, PoolMemory(lead_seconds=known))
    assert lead_time(memory) == expected
    demand = sizing_of(decision).demand
    assert demand is not None
    assert demand.lead_time_seconds == expected


@pytest.mark.parametrize("target", [None, MISSING])
def test_without_a_target_nothing_is_sized_and_the_lag_is_judged(target: Finding | None) -> None:
    workers = {"workers": CRON_JOB} if target is None else {}
    seen = make_facts(target=target, signal=make_sample(**LATE))
    decision, memory = decide_once(make_spec(**workers), seen)
    assert decision.sizing is None
    assert decision.keeping_up == Verdict(holds=False, reason=Reason.LAG_ABOVE_TARGET)
    assert decision.pause_seconds == URGENT_PROBE_SECONDS
    assert memory.window == (), "rates are counted with the workers that make them"
    assert memory.is_late


def test_the_next_sample_is_due_sooner_while_the_queue_is_late() -> None:
    assert decide_once(make_spec(), make_facts())[0].pause_seconds == PROBE_SECONDS
    late = make_facts(signal=make_sample(**LATE))
    assert decide_once(make_spec(), late)[0].pause_seconds == URGENT_PROBE_SECONDS
    assert decide_once(make_spec(), make_facts(signal=GAP))[0].pause_seconds == PROBE_SECONDS


NOON = {"name": "noon", "cron": "0 12 * * *", "duration": "2h", "minWorkers": 12}
LUNCH = {"name": "lunch", "cron": "30 12 * * *", "duration": "30m", "minWorkers": 20}


@pytest.mark.parametrize(
    ("minutes", "names", "least", "limit"),
    [
        (-1, (), 1, Rule.MIN_WORKERS),
        (1, ("noon",), 12, Rule.SCHEDULE),
        (31, ("noon", "lunch"), 20, Rule.SCHEDULE),
        (61, ("noon",), 12, Rule.SCHEDULE),
        (121, (), 1, Rule.MIN_WORKERS),
    ],
)
def test_the_schedule_that_asks_for_most_is_the_minimum(
    minutes: int, names: tuple[str, ...], least: int, limit: Rule
) -> None:
    spec = make_spec(schedules=[NOON, LUNCH], expected_job=1.0)
    at = timedelta(minutes=minutes).total_seconds()
    seen = make_facts(1, signal=make_sample(at, in_flight=0))
    decision, _ = decide_once(spec, seen, at=at)
    assert decision.schedules == names
    assert decision.limits.min_workers == least
    assert scaling_of(decision).limit is limit
    assert scaling_of(decision).allowed == least


def test_a_schedule_never_asks_for_more_than_the_maximum_or_less_than_the_minimum() -> None:
    above = make_spec(schedules=[NOON], max_workers=12, min_workers=12)
    decision, _ = decide_once(above, make_facts(12, signal=make_sample(60.0)), at=60.0)
    assert (decision.limits.min_workers, decision.limits.schedule) == (12, None)
    assert decision.schedules == ("noon",), "it holds, although it raises nothing"


TAKEN_OVER = PoolMemory(seen_at=NOW, was_reported=True, has_answered=True, target_uid="uid-target", last_good_rate=1.0)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"signal": GUARD_GAP}, True),
        ({"signal": GAP}, False),
        ({"signal": make_sample(**LATE)}, True),
        ({"target": MISSING}, False),
        ({"target": MISSING, "signal": GUARD_GAP}, True),
    ],
)
def test_a_process_that_takes_over_waits_for_what_it_cannot_know_yet(parts: dict[str, Any], expected: bool) -> None:
    decision, _ = decide_once(make_spec(), make_facts(**parts), TAKEN_OVER)
    assert decision.is_settling is expected
    fresh = replace(TAKEN_OVER, was_reported=False)
    assert not decide_once(make_spec(), make_facts(**parts), fresh)[0].is_settling, "nothing was reported before"
    later = NOW + 10.0
    assert not decide_once(make_spec(), make_facts(**parts), TAKEN_OVER, later)[0].is_settling, "the time is over"


def test_the_second_sample_is_judged() -> None:
    _, memory = decide_once(make_spec(), make_facts(signal=make_sample(NOW, arrived=500)), TAKEN_OVER)
    second = make_facts(signal=make_sample(NOW + 5, arrived=525, ended=525))
    decision, _ = decide_once(make_spec(), second, memory, NOW + 5)
    assert not decision.is_settling


def test_a_guard_that_has_not_allocated_yet_leaves_the_reported_limit_alone() -> None:
    spec = make_spec(**GUARDED)
    _, memory = decide_once(make_spec(), make_facts(signal=make_sample(NOW)), TAKEN_OVER)
    second = make_facts(signal=make_sample(NOW + 5, arrived=525, ended=525), has_guard=True)
    unknown, _ = decide_once(spec, replace(second, database=make_view(at=NOW + 5)), memory, NOW + 5)
    assert unknown.is_settling
    view = make_view(at=NOW + 5, allocation=Allocation(50, 60, 0))
    known, _ = decide_once(spec, replace(second, database=view), memory, NOW + 5)
    assert not known.is_settling


@given(specs(), facts(), memories(), st.integers(1, 100))
def test_a_larger_maximum_never_allows_fewer(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory, more: int
) -> None:
    larger = spec.model_copy(update={"max_workers": spec.max_workers + more})
    small, large = (scaling_of(decide_once(one, seen, memory)[0]) for one in (spec, larger))
    assert large.allowed >= small.allowed
    assert large.wanted == small.wanted, "the queue knows no bounds"


@given(specs(), facts(), memories(), st.integers(0, 20))
def test_a_larger_minimum_never_allows_fewer(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory, more: int
) -> None:
    least = min(spec.min_workers + more, spec.max_workers)
    larger = spec.model_copy(update={"min_workers": least})
    small, large = (scaling_of(decide_once(one, seen, memory)[0]) for one in (spec, larger))
    # A minimum may bring the count so near to the wanted one that the rest is too little to act on.
    assert large.allowed >= small.allowed or large.limit is Rule.TOLERANCE


@given(specs(), facts(), memories())
def test_what_is_shown_agrees_with_itself(spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory) -> None:
    decision, after = decide_once(spec, seen, memory)
    scaling = scaling_of(decision)
    assert scaling.is_held_back == (scaling.allowed < scaling.wanted)
    assert (scaling.limit is None) <= (scaling.allowed == scaling.wanted)
    assert scaling.message
    assert (decision.keeping_up.reason in (Reason.LAG_WITHIN_TARGET, Reason.BACKLOG_BLOCKED)) is not after.is_late
    assert decision.claim is None, "a pool without a guard asks none"
    assert OWN.target == DEPLOYMENT


def test_a_count_that_is_only_a_lower_bound_leaves_no_worker_to_spare() -> None:
    _, memory = decide_once(make_spec(), make_facts(20), PoolMemory())
    assert memory.spare_since is None, "nobody knows yet what arrives"
    _, memory = decide_once(make_spec(), make_facts(20, signal=make_sample(NOW + 5)), memory, NOW + 5)
    assert memory.spare_since == NOW + 5
