"""The effectiveness gate in a pass: what it observes, what it allows, and its text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headroom.api.v1alpha1.workerpool import Direction
from headroom.model.database import VIEW_FRESH_SECONDS, DatabaseView
from headroom.model.numbers import count_of, round_number
from headroom.model.waits import LOCK_PREFIX
from headroom.policy.workerpool.backlog_step import limit_backlog
from headroom.policy.workerpool.chain_input import ChainInput, Rule, Ruling
from headroom.policy.workerpool.constants import (
    ARRIVALS_FACTOR,
    GAIN_LEAST_JOBS,
    GAINED_SHARE,
    GROWTH_FACTOR,
    SATURATED_SHARE,
)
from headroom.policy.workerpool.demand import Demand, VerifiedCount
from headroom.policy.workerpool.effectiveness import observe_gain
from headroom.policy.workerpool.facts import PoolFacts, ScalingLimits
from headroom.policy.workerpool.gain_memory import Freeze, GainFacts, GainMemory, GainRules, Phase
from headroom.policy.workerpool.gain_window import DatabaseLoad
from headroom.policy.workerpool.memory import PoolMemory
from headroom.policy.workerpool.passing import estimate_passing, is_estimated
from headroom.policy.workerpool.rates import Estimates
from headroom.policy.workerpool.staffing import slots_for
from headroom.policy.workerpool.wanted import forecast
from headroom.policy.workerpool.window import Interval, Observation, backlog_growth, intervals
from headroom.reasons import Reason

LEAST_TOLD_GAIN = 0.25
"""A smaller gain would ask for many times the workers: it is measured again at the next step."""
SAME_SHARE = 0.05
"""Throughputs that differ by less than this are the same in a message."""


def follow_growth(
    facts: PoolFacts, limits: ScalingLimits, memory: PoolMemory, estimates: Estimates, at: float
) -> GainMemory:
    """The gate's memory after this pass; `memory` includes this pass's sample. Empty while the gate is switched off."""
    target = facts.workload
    if not limits.is_gain_measured or target is None:
        return GainMemory()
    rules = GainRules(limits.least_gain, limits.retry_after_seconds, limits.drain_within_seconds)
    return observe_gain(memory.gain, _gain_facts(facts, limits, memory, estimates, at), rules)


def _gain_facts(
    facts: PoolFacts, limits: ScalingLimits, memory: PoolMemory, estimates: Estimates, at: float
) -> GainFacts:
    target, view = facts.workload, facts.database
    assert target is not None
    newest = memory.window[-2:] if facts.sample is not None else ()
    span = next(iter(intervals(newest)), None)
    ready, slots = target.pods.ready, target.pods.ready * limits.concurrency
    is_fresh = view is not None and view.is_ready and at - view.observed_at <= VIEW_FRESH_SECONDS
    return GainFacts(
        at=at,
        ready=ready,
        template=target.template,
        is_updating=target.is_updating,
        database_load=_find_load(view, facts.own.uid) if view is not None and is_fresh else DatabaseLoad(),
        are_commits_slow=view is not None and is_fresh and view.are_commits_slow,
        seconds=0.0 if span is None else span.seconds,
        busy_seconds=0.0 if span is None else max(span.busy_seconds or 0.0, SATURATED_SHARE * slots * span.seconds),
        ended=None if span is None else _count_ended(span, memory.window),
        failed=0 if span is None else span.failed or 0,
        is_saturated=all(_is_saturated(seen, slots) for seen in newest),
        service_rate=estimates.measured_rate,
        waits=facts.waits,
        wanted=memory.wanted or 0,
        most=ready if limits.paused is Direction.UP else limits.max_workers,
        backlog_growth=backlog_growth(memory.window) if facts.sample is not None else None,
    )


def _count_ended(span: Interval, window: Sequence[Observation]) -> int | None:
    """What ended, or what was taken where the queue tells only lag and backlog."""
    if span.ended is not None:
        return span.ended
    passing = estimate_passing(window)
    return None if passing is None else passing.taken


def _find_load(view: DatabaseView, uid: str) -> DatabaseLoad:
    allocation = view.allocations.get(uid)
    return DatabaseLoad(view.state, None if allocation is None else allocation.held_by_others)


def _is_saturated(seen: Observation, slots: int) -> bool:
    """Whether there was work for every slot: nearly all are busy, or more items wait than all of them could take."""
    sample = seen.sample
    if sample.backlog <= 0 or slots <= 0:
        return False
    return sample.in_flight is None or sample.in_flight >= SATURATED_SHARE * slots or sample.backlog >= slots


def find_verified(memory: PoolMemory) -> VerifiedCount | None:
    """The count that was verified last, if it is the present one and gained clearly less than a linear step.

    Then the rate of a slot says too little about more of them. An older verdict may be about other jobs.
    """
    gain, window = memory.gain, memory.gain.window
    verified = gain.verified
    if is_estimated(memory.window):
        # The formulas lack what arrives as well.
        return None
    if verified is None or window is None or not memory.is_late or window.workers != verified.more_workers:
        return None
    if verified.gain.high >= 1 or not window.is_counted:
        return None
    return VerifiedCount(window.workers, window.rate, min(1.0, max(LEAST_TOLD_GAIN, verified.gain.value)))


@dataclass(frozen=True, slots=True)
class GrowthLimit:
    """Workers at most until the next verdict; `is_frozen` while a verdict stopped growth."""

    workers: int
    is_frozen: bool = False


def find_growth_limit(
    memory: GainMemory, *, present: int, arrivals_per_second: float, steady_workers: int, concurrency: int
) -> GrowthLimit | None:
    """The limit of this pass; None while too little has ended to limit anything.

    `arrivals_per_second` is f, with bulks spread over the deadline; `steady_workers` is what f needs at the free rate
    with its variance. One step above the verified count is measured before the next one.
    """
    if memory.freeze is not None:
        return GrowthLimit(memory.freeze.allowed, is_frozen=True)
    if memory.counts_nothing:
        most = limit_backlog(memory)
        return None if most is None else GrowthLimit(most)
    if memory.jobs < GAIN_LEAST_JOBS or memory.reach == 0:
        return None
    gain = 0.0 if memory.verified is None else min(1.0, max(0.0, memory.verified.gain.value))
    gained = memory.gained + max(1, math.floor(GAINED_SHARE * gain * memory.gained)) if memory.gained else 0
    by_arrivals = 0
    if memory.free_rate:
        by_arrivals = math.ceil(ARRIVALS_FACTOR * arrivals_per_second / (concurrency * memory.free_rate))
    by_verdict = max(math.floor(GROWTH_FACTOR * memory.reach), gained)
    if present > max(memory.reach, memory.gained):
        by_verdict = min(by_verdict, present)
    return GrowthLimit(max(by_verdict, by_arrivals, min(steady_workers, by_arrivals + 1)))


def limit_growth(chain_input: ChainInput) -> GrowthLimit | None:
    """The gate's limit of this pass; None without one."""
    limits, demand, gain = chain_input.limits, chain_input.demand, chain_input.memory.gain
    if not limits.is_gain_measured or demand is None:
        return None
    # What is known from before is the free rate, until this pod template has shown its own.
    gain = replace(gain, free_rate=gain.believe_rate(chain_input.now) or demand.service_rate)
    demand = _correct_arrivals(demand, chain_input.memory.window)
    arrivals = max(forecast(demand), _spread_arrivals(chain_input, demand))
    steady = 0
    if gain.free_rate:
        slots = slots_for(forecast(demand), gain.free_rate, limits.target_lag_seconds, demand.arrivals_cv_squared)
        steady = math.ceil(slots / limits.concurrency)
    return find_growth_limit(
        gain,
        present=chain_input.present,
        arrivals_per_second=arrivals,
        steady_workers=steady,
        concurrency=limits.concurrency,
    )


def _correct_arrivals(demand: Demand, window: Sequence[Observation]) -> Demand:
    """The demand with what lag and backlog tell of the arrivals, where the queue does not count them.

    Else they are guessed from the rate of a worker, and workers who hold each other up make that too high.
    """
    passing = None if not window or window[-1].sample.arrived is not None else estimate_passing(window)
    return demand if passing is None else replace(demand, arrivals=passing.arrivals_per_second, arrivals_growth=0.0)


def _spread_arrivals(chain_input: ChainInput, demand: Demand) -> float:
    """What arrived within the deadline, or within what is left to start workers for it and be in time, per second.

    A bulk is not a rate, and has to be done within that time all the same.
    """
    spans = intervals(chain_input.memory.window)
    in_time = demand.lead_time_seconds + demand.target_lag_seconds
    return max(_rate_within(spans, chain_input.now, seconds) for seconds in (demand.drain_within_seconds, in_time))


def _rate_within(spans: Sequence[Interval], now: float, seconds: float) -> float:
    newest = [span for span in spans if span.ended_at > now - seconds]
    return sum(span.arrived or 0 for span in newest) / max(seconds, sum(span.seconds for span in newest))


def check_occupancy(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """Workers with fewer slots than the spec says are proven at one count before there are more than twice as many."""
    occupancy = chain_input.memory.occupancy
    if occupancy.taken is None:
        return None
    most = max(math.floor(GROWTH_FACTOR * occupancy.workers), chain_input.limits.min_workers, chain_input.present)
    if allowed <= most:
        return None
    message = f"{count_of(most, 'worker')} are measured before more are added"
    return Ruling(Rule.NO_GAIN, most, Reason.MEASURING_GAIN, message)


def check_gain(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """More workers only once it is measured that the last ones did more; none while they did not."""
    limit = limit_growth(chain_input)
    if limit is None:
        return None
    least, freeze = chain_input.limits.min_workers, chain_input.memory.gain.freeze
    if freeze is not None:
        most = max(limit.workers, least)
        text = describe_freeze(freeze)
        return Ruling(Rule.NO_GAIN, most, Reason.NO_GAIN_FROM_MORE_WORKERS, text) if allowed > most else None
    most = max(limit.workers, least, chain_input.present)
    if allowed <= most:
        return None
    message = f"{count_of(most, 'worker')} are measured before more are added"
    return Ruling(Rule.NO_GAIN, most, Reason.MEASURING_GAIN, message)


def describe_freeze(freeze: Freeze) -> str:
    """The verdict in words, with its figures."""
    more, fewer = count_of(freeze.more_workers, "worker"), freeze.fewer_workers
    if freeze.is_trial:
        is_lock = freeze.wait is not None and freeze.wait.startswith(LOCK_PREFIX)
        cause = "wait for locks" if is_lock else "do less each than fewer did"
        return f"{more} {cause}: fewer are measured beside them"
    after, before = round_number(freeze.more_rate), round_number(freeze.fewer_rate)
    verb = "does" if freeze.more_workers == 1 else "do"
    if abs(freeze.more_rate - freeze.fewer_rate) <= SAME_SHARE * freeze.fewer_rate:
        return f"{more} {verb} as much as {fewer} did ({after:g}/s)"
    if freeze.more_rate < freeze.fewer_rate:
        return f"{more} {verb} less than {fewer} did ({after:g}/s, {before:g}/s)"
    return f"{more} {verb} hardly more than {fewer} did ({after:g}/s, {before:g}/s)"


def is_frozen(memory: GainMemory) -> bool:
    """True while a verdict stops growth; one try of more workers is not a verdict."""
    freeze = memory.freeze
    return freeze is not None and not freeze.is_trial and freeze.phase is not Phase.RETRYING
