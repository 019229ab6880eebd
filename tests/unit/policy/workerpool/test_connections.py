"""The database's connections: what the guard allows is obeyed, a blind guard lets nothing grow, and what is asked."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.conditions import Finding
from headroom.model.database import Allocation, DatabaseView, PoolDemand
from headroom.policy.databaseguard.budget import allocate
from headroom.policy.target_conflict import AutoscalerClaim
from headroom.policy.workerpool import PoolDecision, PoolFacts, PoolMemory, Rule, ScalingDecision, decide
from headroom.policy.workerpool.constants import GUARD_FRESH_SECONDS
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import (
    DEPLOYMENT,
    GAP,
    NOW,
    OWN,
    make_facts,
    make_sample,
    make_spec,
    make_target,
    make_view,
    moment,
    scaling_of,
)
from tests.unit.policy.workerpool.strategies import facts, memories, specs
from tests.unit.policy.workerpool.world import World

GUARDED: dict[str, Any] = {"databaseRef": {"name": "store"}}
LATE = make_sample(lag_seconds=100.0, backlog=6000, late=6000)
KNOWN = PoolMemory(last_good_rate=1.0)


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
    decision, memory = decide_now(make_view(allocation=Allocation(10, budget=32, held_by_others=12)))
    assert (decision.allowed, decision.limit, decision.reason) == (10, Rule.CONNECTION_BUDGET, Reason.CONNECTION_BUDGET)
    assert "has 32 connections for workers, other pools hold 12 of them, and one worker takes 1" in decision.message
    assert memory.allocation == Allocation(10, 32, 12)


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
        make_view(at=NOW - GUARD_FRESH_SECONDS - 0.1, allocation=Allocation(30, 60, 0)),
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
    assert decide_now(view, at=NOW + GUARD_FRESH_SECONDS)[0].allowed > 8
    assert decide_now(view, at=NOW + GUARD_FRESH_SECONDS + 1)[0].allowed == 8


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
        assert blind.allowed == min(free.allowed, cap), "it is a cap like any other, and no reason to go down"


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
    assert small.allowed <= workers
    assert small.wanted == large.wanted


def claim(seen: PoolFacts, memory: PoolMemory = KNOWN, **spec: Any) -> PoolDemand | None:
    decision: PoolDecision = decide(make_spec(**{**GUARDED, **spec}), seen, memory, moment(NOW)).decision
    return decision.claim


def arriving(present: int, rate: float, **numbers: Any) -> tuple[PoolFacts, PoolMemory]:
    """A pool that has been watched for a while, with so many arrivals a second that take one second each."""
    memory, spec = replace(KNOWN, target_uid="uid-target"), make_spec()
    for index in range(12):
        at = NOW - 5.0 * (12 - index)
        count = round(rate * (at - NOW + 100))
        sample = make_sample(at, arrived=count, ended=count, in_flight=0)
        memory = decide(spec, make_facts(present, signal=sample), memory, moment(at)).memory
    count = round(rate * 100)
    return make_facts(present, signal=make_sample(arrived=count, ended=count, **numbers)), memory


def test_a_pool_asks_for_what_its_queue_wants_within_its_bounds() -> None:
    seen, memory = arriving(12, 16.0, in_flight=3)
    asked = claim(seen, memory, connectionsPerWorker=2, min_workers=2, priority="Critical")
    assert asked == PoolDemand(OWN.uid, 0, 2, minimum=2, running=12, busy=3, wanted=20)
    below = claim(seen, memory, max_workers=15)
    assert below is not None
    assert below.wanted == 15, "never more than maxWorkers"
    above = claim(seen, memory, min_workers=30)
    assert above is not None
    assert (above.minimum, above.wanted) == (30, 30)


@pytest.mark.parametrize(("priority", "rank"), [("Critical", 0), ("Standard", 1), ("Background", 2)])
def test_the_rank_is_that_of_the_priority(priority: str, rank: int) -> None:
    asked = claim(make_facts(), priority=priority)
    assert asked is not None
    assert asked.rank == rank


def test_pods_that_start_hold_their_connections_already() -> None:
    starting = make_target(8, existing=11, running=5, ready=5)
    asked = claim(make_facts(target=starting, signal=make_sample(in_flight=40)))
    assert asked is not None
    assert (asked.running, asked.busy) == (11, 5), "no more workers are busy than run"


@pytest.mark.parametrize("signal", [GAP, make_sample(in_flight=None)])
def test_who_cannot_tell_idle_workers_takes_all_for_busy(signal: Any) -> None:
    asked = claim(make_facts(8, signal=signal))
    assert asked is not None
    assert asked.busy == 8


def test_jobs_share_a_worker_as_far_as_it_takes_several() -> None:
    asked = claim(make_facts(8, signal=make_sample(in_flight=9)), concurrency=4)
    assert asked is not None
    assert asked.busy == 3


def test_a_blind_pool_asks_for_what_it_wanted_last_and_for_no_less_than_it_has() -> None:
    seen, memory = arriving(12, 16.0)
    known = decide(make_spec(), seen, memory, moment(NOW)).memory
    asked = claim(replace(seen, signal=GAP), known)
    assert asked is not None
    assert asked.wanted == 20
    small = claim(make_facts(30, signal=GAP), known)
    assert small is not None
    assert small.wanted == 30
    never = claim(make_facts(7, signal=GAP), PoolMemory())
    assert never is not None
    assert never.wanted == 7


@pytest.mark.parametrize("mode", ["DryRun", "Paused"])
def test_a_pool_that_is_not_scaled_asks_for_what_is_there(mode: str) -> None:
    seen, memory = arriving(4, 16.0)
    asked = claim(seen, memory, mode=mode, min_workers=9)
    assert asked is not None
    assert (asked.minimum, asked.wanted, asked.running) == (4, 4, 4)


def test_a_pool_that_another_scales_asks_for_what_is_there() -> None:
    seen, memory = arriving(4, 16.0)
    asked = claim(replace(seen, autoscalers=(AutoscalerClaim("hpa", DEPLOYMENT),)), memory)
    assert asked is not None
    assert asked.wanted == 4


def test_a_pool_whose_target_is_missing_asks_for_nothing() -> None:
    missing = Finding(Reason.TARGET_NOT_FOUND, "there is no deployment/mailer")
    asked = claim(make_facts(target=missing))
    assert asked == PoolDemand(OWN.uid, 1, 1, minimum=0, running=0, busy=0, wanted=0)


def test_a_cron_job_and_a_pool_without_a_guard_ask_for_nothing_at_all() -> None:
    cron_job = {"suspendRef": {"apiVersion": "batch/v1", "kind": "CronJob", "name": "cohorts"}}
    assert claim(make_facts(target=None), workers=cron_job) is None
    assert claim(make_facts(), databaseRef=None) is None


class Guard:
    """Allocates a budget among worlds once a second, as the guard of their database does."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.worlds: list[World] = []
        self.is_blind = False
        self.view: DatabaseView | None = None

    def add(self, uid: str, rate: float, seed: int, **spec: Any) -> World:
        asked = make_spec(**{"expected_job": 0.5, "max_workers": 60, **GUARDED, **spec})
        world = World(
            lambda _: rate,
            0.5,
            asked,
            seed=seed,
            own=replace(OWN, uid=uid),
            database=lambda _: self.view,
            memory=PoolMemory(last_good_rate=2.0),
        )
        self.worlds.append(world)
        return world

    def run(self, seconds: float) -> list[int]:
        """All worlds side by side; returns the connections that were held at each second."""
        held = []
        for _ in range(round(seconds)):
            if not self.is_blind:
                demands = [world.timeline[-1][4].claim for world in self.worlds if world.timeline]
                allocations = allocate(self.budget, [demand for demand in demands if demand is not None])
                at = self.worlds[0].now
                self.view = replace(make_view(at=at), allocations=allocations)
            for world in self.worlds:
                world.run(1.0)
            held.append(sum(world.present * world.spec.connections_per_worker for world in self.worlds))
        return held


def test_two_pools_settle_within_the_budget_and_share_it() -> None:
    guard = Guard(budget=20)
    first, second = guard.add("uid-a", 40.0, seed=1), guard.add("uid-b", 40.0, seed=2)
    held = guard.run(120)
    assert max(held[2:]) <= 20
    assert (first.present, second.present) == (10, 10)


def test_a_pool_of_a_higher_class_gets_what_it_needs_first() -> None:
    guard = Guard(budget=24)
    critical = guard.add("uid-a", 30.0, seed=3, priority="Critical")
    background = guard.add("uid-b", 40.0, seed=4, priority="Background", min_workers=2)
    held = guard.run(180)
    assert max(held[2:]) <= 24
    assert critical.lag() < 30
    assert critical.present >= 15
    assert background.present >= 2, "a minimum goes before the growth of another class"


def test_connections_per_worker_count() -> None:
    guard = Guard(budget=21)
    heavy, light = guard.add("uid-a", 40.0, seed=5, connectionsPerWorker=4), guard.add("uid-b", 40.0, seed=6)
    held = guard.run(120)
    assert max(held[2:]) <= 21
    assert heavy.present >= 1
    assert light.present >= 1


def test_a_guard_that_goes_blind_keeps_the_sum_where_it_was() -> None:
    guard = Guard(budget=40)
    world, other = guard.add("uid-a", 4.0, seed=7), guard.add("uid-b", 4.0, seed=8)
    guard.run(60)
    before = (world.present, other.present)
    guard.is_blind = True
    guard.run(round(GUARD_FRESH_SECONDS) + 2)
    world.arrive(4000)
    guard.run(120)
    assert (world.present, other.present) == before, "a backlog adds nobody while connections are not counted"
    assert scaling_of(world.timeline[-1][4]).reason is Reason.GUARD_NOT_READY
    guard.is_blind = False
    guard.run(30)
    assert world.present > before[0]
