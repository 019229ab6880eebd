"""The database's connections: what the guard allows is obeyed, a blind guard lets nothing grow, and what is asked."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.conditions import Finding
from headroom.model.database import VIEW_FRESH_SECONDS, Allocation, DatabaseView, PoolDemand
from headroom.policy.databaseguard.budget import allocate
from headroom.policy.target_conflict import AutoscalerClaim
from headroom.policy.workerpool import PoolDecision, PoolFacts, PoolMemory, Rule, ScalingDecision, decide
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
    bounds = {"minimum": 2, "maximum": 40}
    assert asked == PoolDemand(OWN.uid, 0, 2, running=12, busy=3, wanted=20, guard="store", **bounds)
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


def test_workers_that_are_written_now_hold_their_connections_already() -> None:
    """Their pods connect before the next demand: the guard must not give the connections to another pool meanwhile."""
    seen, memory = arriving(12, 16.0)
    generous = make_view(allocation=Allocation(30, 60, 0))
    asked = claim(replace(seen, database=generous, has_guard=True), memory)
    assert asked is not None
    assert (asked.running, asked.wanted) == (20, 20)
    late = claim(make_facts(target=make_target(9, existing=4, running=4, ready=4)))
    assert late is not None
    assert late.running == 9, "they were asked for, and their pods are not there yet"


@pytest.mark.parametrize("mode", ["DryRun", "Paused"])
def test_a_pool_that_is_not_scaled_keeps_what_is_there_and_asks_for_no_more(mode: str) -> None:
    seen, memory = arriving(4, 16.0)
    asked = claim(seen, memory, mode=mode, min_workers=9)
    assert asked == PoolDemand(OWN.uid, 1, 1, minimum=4, running=4, busy=4, wanted=4, maximum=4, guard="store")


def test_a_pool_that_another_scales_asks_for_what_is_there() -> None:
    seen, memory = arriving(4, 16.0)
    asked = claim(replace(seen, autoscalers=(AutoscalerClaim("hpa", DEPLOYMENT),)), memory)
    assert asked is not None
    assert (asked.busy, asked.wanted, asked.maximum) == (4, 4, 4)


def test_a_dry_run_shows_what_is_free_although_nothing_is_kept_for_it() -> None:
    fixed = Allocation(8, budget=32, held_by_others=12)
    decision, _ = decide_now(make_view(allocation=fixed), mode="DryRun")
    assert (decision.allowed, decision.reason) == (16, Reason.STEP_LIMITED)
    decision, _ = decide_now(make_view(allocation=replace(fixed, held_by_others=20)), mode="DryRun")
    assert (decision.allowed, decision.reason) == (12, Reason.CONNECTION_BUDGET)
    assert decide_now(make_view(allocation=fixed))[0].allowed == 8


def test_a_pool_whose_target_is_missing_asks_for_nothing() -> None:
    missing = Finding(Reason.TARGET_NOT_FOUND, "there is no deployment/mailer")
    asked = claim(make_facts(target=missing))
    assert asked == PoolDemand(OWN.uid, 1, 1, 0, 0, 0, 0, maximum=0, guard="store")


def test_a_cron_job_and_a_pool_without_a_guard_ask_for_nothing_at_all() -> None:
    cron_job = {"suspendRef": {"apiVersion": "batch/v1", "kind": "CronJob", "name": "cohorts"}}
    assert claim(make_facts(target=None), workers=cron_job) is None
    assert claim(make_facts(), databaseRef=None) is None


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
        assert (scaling.wanted, scaling.allowed, scaling.expected) == (20, 14, 20)
        assert (scaling.is_held_back, scaling.limit, scaling.reason) == (False, None, Reason.ARRIVALS_COVERED)
        assert decision.claim is not None
        assert (decision.claim.running, decision.claim.wanted) == (14, 20)

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
    guard.run(round(VIEW_FRESH_SECONDS) + 2)
    world.arrive(4000)
    guard.run(120)
    assert (world.present, other.present) == before, "a backlog adds nobody while connections are not counted"
    assert scaling_of(world.timeline[-1][4]).reason is Reason.GUARD_NOT_READY
    guard.is_blind = False
    guard.run(30)
    assert world.present > before[0]


def verdicts(world: World, since: float) -> list[tuple[bool, Reason]]:
    """Whether connections were said to limit the pool, and whether it keeps up, one after the other."""
    shown = [
        (scaling_of(decision).is_held_back and scaling_of(decision).limit is Rule.CONNECTION_BUDGET, decision)
        for at, _, _, _, decision in world.timeline
        if at >= since
    ]
    found: list[tuple[bool, Reason]] = []
    for is_short, decision in shown:
        entry = (is_short, decision.keeping_up.reason)
        if not found or found[-1] != entry:
            found.append(entry)
    return found


def growing(guard: Guard) -> World:
    """A Standard pool whose arrivals grow from 4 to 36 a second within six minutes."""
    world = guard.add("uid-b", 4.0, seed=9)
    world.rate = lambda at: 4.0 + 32.0 * min(1.0, at / 360.0)
    return world


def test_steady_growth_beside_idle_critical_pools_is_never_called_a_shortage() -> None:
    """Each of nine pools has a worker or two of headroom, and the growing one wants more than that at once."""
    guard = Guard(budget=44)
    for number in range(8):
        guard.add(f"uid-{number}", 0.0, seed=10 + number, priority="Critical", max_workers=60)
    world = growing(guard)
    held = guard.run(420)
    assert max(held) <= 44
    assert world.present >= 18
    assert not any(is_short for is_short, _ in verdicts(world, 0.0))
    assert Reason.CANNOT_MEET_DEADLINE not in {reason for _, reason in verdicts(world, 0.0)}


def test_a_real_shortage_shows_within_five_seconds_and_stays() -> None:
    guard = Guard(budget=12)
    guard.add("uid-a", 0.0, seed=10, priority="Critical")
    world = growing(guard)
    guard.run(420)
    wanted = next(at for at, _, _, _, one in world.timeline if scaling_of(one).wanted > 14)
    shown = [is_short for is_short, _ in verdicts(world, wanted + 5.0)]
    assert shown == [True] * len(shown)
    assert world.present == 11


def test_an_idle_pool_loses_no_worker_to_the_headroom_of_another() -> None:
    guard = Guard(budget=55)
    guard.add("uid-a", 0.0, seed=11, priority="Critical")
    world = guard.add("uid-b", 40.0, seed=12, down_window=120.0)
    guard.run(120)
    busy = world.present
    assert busy >= 20
    world.rate = lambda _: 0.0
    guard.run(100)
    assert world.present == busy, "the down window holds them, and nobody else wants their connections"


def test_a_target_that_cannot_be_read_keeps_what_its_pool_held() -> None:
    """A wrong name in the spec ends no worker: their connections must not become those of others."""
    known = decide(make_spec(databaseRef={"name": "store"}), make_facts(30), KNOWN, moment(NOW)).memory
    missing = Finding(Reason.TARGET_NOT_FOUND, "there is no deployment/mailer")
    asked = claim(replace(make_facts(30), target=missing), known)
    assert asked is not None
    assert (asked.running, asked.busy, asked.wanted, asked.maximum) == (30, 30, 30, 30)


def test_a_budget_below_the_minimum_shows_though_the_queue_wants_nobody() -> None:
    calm = make_sample(lag_seconds=0.0, backlog=0, in_flight=0)
    facts = replace(make_facts(25, signal=calm), database=make_view(allocation=Allocation(0, 0, 40)))
    spec = make_spec(min_workers=25, databaseRef={"name": "store"})
    decision = scaling_of(decide(spec, facts, KNOWN, moment(NOW)).decision)
    assert decision.allowed == 0
    assert decision.reason is Reason.BUDGET_BELOW_MINIMUM
    assert decision.is_held_back
