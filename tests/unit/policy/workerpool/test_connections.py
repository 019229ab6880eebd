"""The database's connections: what the guard allows is obeyed, and a blind guard lets nothing grow."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.database import VIEW_FRESH_SECONDS, Allocation, DatabaseView
from headroom.policy.workerpool import PoolDecision, PoolFacts, PoolMemory, Rule, ScalingDecision, decide
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import (
    GUARDED,
    KNOWN,
    NOW,
    arriving,
    make_facts,
    make_sample,
    make_spec,
    make_view,
    moment,
    scaling_of,
)
from tests.unit.policy.workerpool.strategies import facts, memories, specs

LATE = make_sample(lag_seconds=100.0, backlog=6000, late=6000)
SHORT = Allocation(10, budget=32, held_by_others=12, is_short=True)
"""The guard has heard of a pool's want and cannot give more."""
ENOUGH = replace(SHORT, is_short=False)
"""The guard gave all that was asked for, and the pool wants more by now."""


def decide_now(
    view: DatabaseView | None,
    *,
    present: int = 8,
    memory: PoolMemory = KNOWN,
    has_guard: bool = True,
    at: float = NOW,
    **spec: Any,
) -> tuple[ScalingDecision, PoolMemory]:
    """What a pool of so many workers is allowed while its queue is far behind."""
    seen = make_facts(present, signal=replace(LATE, taken_at=at), database=view, has_guard=has_guard)
    outcome = decide(make_spec(**{**GUARDED, **spec}), seen, memory, moment(at))
    return scaling_of(outcome.decision), outcome.memory


def guarded(spec: WorkerPoolSpec) -> WorkerPoolSpec:
    ref = make_spec(**GUARDED).database_ref
    return spec.model_copy(update={"database_ref": ref})


def test_what_the_guard_allocates_is_obeyed_and_explained() -> None:
    decision, memory = decide_now(make_view(allocation=SHORT))
    assert (decision.allowed, decision.limit, decision.reason) == (10, Rule.CONNECTION_BUDGET, Reason.CONNECTION_BUDGET)
    assert decision.message.endswith(
        "10 allowed: the database has 32 connections for workers; other pools hold 12, and one worker takes 1"
    )
    assert memory.allocation == SHORT


def test_what_a_higher_class_takes_is_named() -> None:
    decision, _ = decide_now(make_view(allocation=replace(SHORT, ahead=9)))
    assert decision.message.endswith(
        "other pools hold 12, and one worker takes 1; pools of a higher priority come first, with 9"
    )


def test_a_pooler_that_is_too_small_is_named() -> None:
    decision, _ = decide_now(make_view(allocation=replace(SHORT, is_pooled=True)), connectionsPerWorker=3)
    assert (
        "the pooler of the database has 32 connections for workers; other pools behind it hold 12" in decision.message
    )


def test_a_limit_of_the_server_is_named_with_what_a_worker_was_measured_to_take() -> None:
    allocation = replace(SHORT, limited='role "mail" (CONNECTION LIMIT 32)', per_worker=2.5)
    decision, _ = decide_now(make_view(allocation=allocation))
    assert (
        'role "mail" (CONNECTION LIMIT 32) has 32 connections for workers; other pools of it hold 12, and one worker '
        "takes 2.5 as measured (connectionsPerWorker is 1)"
    ) in decision.message


def test_a_dry_run_counts_what_a_worker_was_measured_to_take() -> None:
    allocation = Allocation(8, budget=32, held_by_others=12, per_worker=2.5)
    decision, _ = decide_now(make_view(allocation=allocation), mode="DryRun", present=8)
    assert decision.allowed == 8


def test_its_own_terminating_workers_are_named_and_leave_no_room() -> None:
    held = replace(SHORT, terminating=6)
    decision, _ = decide_now(make_view(allocation=held))
    assert decision.message.endswith("other pools hold 12, terminating workers 6, and one worker takes 1")
    decision, _ = decide_now(make_view(allocation=replace(held, workers=8)), mode="DryRun")
    assert decision.allowed == 14, "of 32"


def test_a_pool_above_its_allocation_gives_workers_back_at_once() -> None:
    decision, _ = decide_now(make_view(allocation=Allocation(3, budget=32, held_by_others=12)), present=20)
    assert decision.allowed == 3, "a cap is not stepped"


def test_less_than_the_minimum_is_named() -> None:
    decision, _ = decide_now(make_view(allocation=Allocation(3, 10, 0)), min_workers=5)
    assert (decision.allowed, decision.reason) == (3, Reason.BUDGET_BELOW_MINIMUM)


def test_a_pool_without_a_reference_has_no_cap() -> None:
    spec = make_spec()
    seen = make_facts(8, signal=LATE, database=make_view(allocation=Allocation(1, 1, 0)), has_guard=True)
    decision = scaling_of(decide(spec, seen, KNOWN, moment(NOW)).decision)
    assert decision.allowed > 8


BLIND: dict[str, tuple[DatabaseView | None, str]] = {
    "never observed": (None, "it has not been observed yet"),
    "not ready": (make_view(is_ready=False, message="the password is wrong"), "the password is wrong"),
    "not ready, no words": (make_view(is_ready=False), "PasswordRejected"),
    "old": (
        make_view(at=NOW - VIEW_FRESH_SECONDS - 0.1, allocation=Allocation(30, 60, 0)),
        "its last numbers are old",
    ),
    "not allocated": (make_view(), "it has allocated none to this pool yet"),
}


@pytest.mark.parametrize(("view", "why"), BLIND.values(), ids=BLIND)
def test_while_the_guard_is_blind_nothing_grows(view: DatabaseView | None, why: str) -> None:
    decision, memory = decide_now(view)
    assert (decision.allowed, decision.limit, decision.reason) == (8, Rule.CONNECTION_BUDGET, Reason.GUARD_NOT_READY)
    assert decision.message.endswith(
        f"; 8 stay: no workers are added: dbg/store cannot say how many connections are free ({why})"
    )
    assert decision.is_held_back
    assert memory.allocation is None


@pytest.mark.parametrize(("view", "why"), BLIND.values(), ids=BLIND)
def test_while_the_guard_is_blind_the_last_allocation_holds(view: DatabaseView | None, why: str) -> None:
    known = replace(KNOWN, allocation=Allocation(6, 30, 10))
    decision, memory = decide_now(view, memory=known)
    assert decision.allowed == 6, why
    assert memory.allocation == Allocation(6, 30, 10)
    generous = replace(KNOWN, allocation=Allocation(30, 60, 0))
    assert decide_now(view, memory=generous)[0].allowed == 8, "connections that were free may not be any more"


@pytest.mark.parametrize(("view", "why"), BLIND.values(), ids=BLIND)
def test_even_a_minimum_waits_for_a_guard_that_sees(view: DatabaseView | None, why: str) -> None:
    decision, _ = decide_now(view, present=0, min_workers=3)
    assert decision.allowed == 0, why
    decision, _ = decide_now(view, present=30, max_workers=12)
    assert decision.allowed == 12, "the way down is open"


def test_a_guard_that_does_not_exist_is_named() -> None:
    decision, _ = decide_now(None, has_guard=False)
    assert (decision.allowed, decision.reason) == (8, Reason.GUARD_NOT_FOUND)
    assert decision.message.endswith("; 8 stay: no workers are added: there is no DatabaseGuard store")


def test_numbers_hold_for_ten_seconds() -> None:
    view = make_view(at=NOW, allocation=Allocation(30, 60, 0))
    assert decide_now(view, at=NOW + VIEW_FRESH_SECONDS)[0].allowed > 8
    assert decide_now(view, at=NOW + VIEW_FRESH_SECONDS + 1)[0].allowed == 8


def test_without_its_reference_a_pool_forgets_the_allocation() -> None:
    known = replace(KNOWN, allocation=Allocation(6, 30, 10))
    after = decide(make_spec(), make_facts(8), known, moment(NOW)).memory
    assert after.allocation is None


@given(specs(), facts(), memories(), st.integers(0, 300))
def test_a_blind_guard_never_lets_a_pool_grow(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory, last: int
) -> None:
    target = seen.workload
    assert target is not None
    spec, seen = guarded(spec), replace(seen, has_guard=True)
    known = replace(memory, allocation=Allocation(last, 300, 0))
    for held, cap in ((memory, target.present), (known, min(last, target.present))):
        free = scaling_of(decide(spec.model_copy(update={"database_ref": None}), seen, held, moment(NOW)).decision)
        blind = scaling_of(decide(spec, seen, held, moment(NOW)).decision)
        assert blind.allowed <= min(free.allowed, target.present)
        has_work = seen.sample is not None and seen.sample.in_flight != 0
        assert has_work or blind.allowed == min(free.allowed, cap), "a cap like any other, and no reason to go down"


@given(specs(), facts(), memories(), st.integers(0, 300), st.integers(0, 50))
def test_a_larger_allocation_never_allows_fewer(
    spec: WorkerPoolSpec, seen: PoolFacts, memory: PoolMemory, workers: int, more: int
) -> None:
    spec = guarded(spec)
    small, large = (
        scaling_of(
            decide(
                spec,
                replace(seen, database=make_view(allocation=Allocation(count, 400, 0)), has_guard=True),
                memory,
                moment(NOW),
            ).decision
        )
        for count in (workers, workers + more)
    )
    assert small.allowed <= large.allowed
    assert seen.workload is not None
    has_work = seen.sample is not None and seen.sample.in_flight != 0
    assert small.allowed <= (max(workers, seen.workload.present) if has_work else workers)
    assert small.wanted == large.wanted


def test_a_dry_run_shows_what_is_free_although_nothing_is_kept_for_it() -> None:
    fixed = Allocation(8, budget=32, held_by_others=12)
    decision, _ = decide_now(make_view(allocation=fixed), mode="DryRun")
    assert (decision.allowed, decision.reason) == (16, Reason.STEP_LIMITED)
    decision, _ = decide_now(make_view(allocation=replace(fixed, held_by_others=20)), mode="DryRun")
    assert (decision.allowed, decision.reason) == (12, Reason.CONNECTION_BUDGET)
    assert decide_now(make_view(allocation=fixed))[0].allowed == 8


def test_a_budget_below_the_minimum_shows_though_the_queue_wants_nobody() -> None:
    calm = make_sample(lag_seconds=0.0, backlog=0, in_flight=0)
    facts = replace(make_facts(25, signal=calm), database=make_view(allocation=Allocation(0, 0, 40)))
    spec = make_spec(min_workers=25, databaseRef={"name": "store"})
    decision = scaling_of(decide(spec, facts, KNOWN, moment(NOW)).decision)
    assert decision.allowed == 0
    assert decision.reason is Reason.BUDGET_BELOW_MINIMUM
    assert decision.is_held_back


class TestUnheardWant:
    """The guard gave what it had heard of. A want that it has not heard of yet waits, and is no shortage yet."""

    def decide_again(self, memory: PoolMemory, at: float, allocation: Allocation = ENOUGH) -> PoolDecision:
        view = make_view(at=at, allocation=allocation)
        seen = make_facts(8, signal=replace(LATE, taken_at=at), database=view, has_guard=True)
        return decide(make_spec(**GUARDED), seen, memory, moment(at)).decision

    def test_it_is_held_and_no_verdict_turns(self) -> None:
        decision = self.decide_again(KNOWN, NOW)
        scaling = scaling_of(decision)
        assert (scaling.allowed, scaling.awaited, scaling.limit) == (10, 6, Rule.STEP)
        assert scaling.expected == 16, "as many as without the budget"
        assert "; 16 allowed: at most 8 more" in scaling.message
        assert scaling.message.endswith("; 10 for now: the guard has yet to share out connections for more")

    def test_only_what_limits_apart_from_it_is_reported(self) -> None:
        seen, memory = arriving(12, 16.0)
        view = make_view(allocation=replace(ENOUGH, workers=14))
        decision = decide(
            make_spec(**GUARDED), replace(seen, database=view, has_guard=True), memory, moment(NOW)
        ).decision
        scaling = scaling_of(decision)
        wanted = scaling_of(decide(make_spec(), seen, memory, moment(NOW)).decision).wanted
        assert wanted > 14
        assert (scaling.wanted, scaling.allowed, scaling.expected) == (wanted, 14, wanted)
        assert (scaling.is_held_back, scaling.limit, scaling.reason) == (False, None, Reason.ARRIVALS_COVERED)
        assert decision.claim is not None
        assert (decision.claim.running, decision.claim.wanted) == (14, wanted)

    def test_the_verdict_on_the_deadline_counts_the_workers_that_are_expected(self) -> None:
        """Of 4,500 jobs 16 workers do 4,800 in the 300 s that are left, and 10 workers only 3,000."""
        late = replace(LATE, backlog=4500, late=4500)
        for allocation, holds in ((ENOUGH, True), (SHORT, False)):
            view = make_view(allocation=allocation)
            seen = make_facts(8, signal=late, database=view, has_guard=True)
            verdict = decide(make_spec(**GUARDED), seen, replace(KNOWN, is_late=True), moment(NOW)).decision.keeping_up
            assert verdict.holds is holds, allocation

    def test_after_five_seconds_it_is_a_shortage(self) -> None:
        memory = decide(
            make_spec(**GUARDED),
            make_facts(8, signal=LATE, database=make_view(allocation=ENOUGH), has_guard=True),
            KNOWN,
            moment(NOW),
        ).memory
        assert memory.capped_since == NOW
        assert scaling_of(self.decide_again(memory, NOW + 4)).limit is Rule.STEP
        after = scaling_of(self.decide_again(memory, NOW + 5))
        assert (after.limit, after.reason) == (Rule.CONNECTION_BUDGET, Reason.CONNECTION_BUDGET)
        assert after.is_held_back

    def test_once_it_is_allocated_the_time_begins_again(self) -> None:
        memory = replace(KNOWN, capped_since=NOW - 3)
        seen = make_facts(8, signal=LATE, database=make_view(allocation=replace(ENOUGH, workers=60)), has_guard=True)
        assert decide(make_spec(**GUARDED), seen, memory, moment(NOW)).memory.capped_since is None

    def test_a_shortage_that_the_guard_knows_of_is_reported_at_once(self) -> None:
        scaling = scaling_of(self.decide_again(KNOWN, NOW, SHORT))
        assert (scaling.reason, scaling.awaited, scaling.is_held_back) == (Reason.CONNECTION_BUDGET, 0, True)

    def test_workers_that_have_to_go_are_always_explained(self) -> None:
        scaling = scaling_of(self.decide_again(KNOWN, NOW, replace(ENOUGH, workers=5)))
        assert (scaling.allowed, scaling.limit, scaling.awaited) == (5, Rule.CONNECTION_BUDGET, 0)
