"""From one pass's observation to samples, budget and state of a server: the next memory of it."""

from collections.abc import Mapping
from dataclasses import replace

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.model.conditions import Finding
from headroom.model.database import Allocation, ConnectionBudget, ConnectionCounts
from headroom.policy.databaseguard.budget import allocate, count_others, decide_budget, merge_limits
from headroom.policy.databaseguard.facts import GuardFacts, ServerMemory, limits_of
from headroom.policy.databaseguard.signals import Measurements, worst_of
from headroom.policy.databaseguard.state import advance_state
from headroom.reasons import Reason

SAMPLE_SECONDS = 5.0
"""A sample is the worst of a span of this length."""
ANSWERED_LATELY_SECONDS = 300.0
DROWNING_REASONS = frozenset({Reason.PRIMARY_TIMEOUT, Reason.NO_CONNECTION_LEFT})
DEMANDS_AFTER_SECONDS = 10.0
"""Pools post their demand at least every 5 s: connections of a pool that has not done so yet look like others'."""


def measure_server(
    memory: ServerMemory, spec: DatabaseGuardSpec | None, facts: GuardFacts, finding: Finding | None, now: float
) -> ServerMemory:
    """Take one observation into account; `finding` is why the server could not be used."""
    if finding is None and spec is not None and facts.counts is not None:
        memory = _count(memory, spec, facts, facts.counts, now)
    worst = worst_of(memory.worst, _measure(memory, spec, facts, finding, now))
    memory = replace(memory, worst=worst, answered_at=now if finding is None else memory.answered_at)
    if not _is_whole(memory, facts, finding, now):
        return memory
    # Commits count only while the server could be used: a canary fails for other reasons as well.
    commit = facts.window.worst_since(memory.sampled_at, now) if finding is None else None
    sample = worst_of(worst, Measurements(commit_seconds=commit))
    thresholds = spec.thresholds if spec is not None else Thresholds()
    state = advance_state(memory.state, sample, thresholds, now)
    has_had_state = memory.has_had_state or state.level is not None
    return replace(memory, state=state, worst=Measurements(), sampled_at=now, has_had_state=has_had_state)


def _count(
    memory: ServerMemory, spec: DatabaseGuardSpec, facts: GuardFacts, counts: ConnectionCounts, now: float
) -> ServerMemory:
    limits = merge_limits((limits_of(spec), *facts.other_limits))
    since = now if memory.counted_since is None else memory.counted_since
    current, is_settled = count_others(counts, facts.demands, limits), now - since >= DEMANDS_AFTER_SECONDS
    others = memory.others.observe(now, current) if is_settled else memory.others
    high = others.high()
    budget = decide_budget(counts, current if high is None else high, limits)
    allocations = _allocate(memory, facts, budget, is_settled=is_settled)
    return replace(
        memory,
        counted_since=since,
        others=others,
        counts=counts,
        budget=budget,
        demands=facts.demands,
        allocations=allocations,
    )


def _allocate(
    memory: ServerMemory, facts: GuardFacts, budget: ConnectionBudget, *, is_settled: bool
) -> Mapping[str, Allocation]:
    """Each pool's part; until all pools had time to post their demand, nobody is asked to give anything back."""
    is_same = memory.budget is not None and memory.budget.budget == budget.budget and memory.demands == facts.demands
    if is_same and is_settled and memory.allocations:
        return memory.allocations
    made = allocate(budget.budget, facts.demands)
    is_cut = any(made[demand.uid].workers < demand.running for demand in facts.demands)
    return {} if is_cut and not is_settled else made


def _is_whole(memory: ServerMemory, facts: GuardFacts, finding: Finding | None, now: float) -> bool:
    """The first sample is short, one answered canary: until there is a state the guard is not Ready."""
    is_first_answer = finding is None and not memory.has_had_state and bool(facts.window.marks)
    return is_first_answer or now - memory.sampled_at >= SAMPLE_SECONDS


def _measure(
    memory: ServerMemory, spec: DatabaseGuardSpec | None, facts: GuardFacts, finding: Finding | None, now: float
) -> Measurements:
    """One observation's measurements, the canary's apart."""
    if finding is not None:
        was_answering = memory.answered_at is not None and now - memory.answered_at < ANSWERED_LATELY_SECONDS
        return Measurements(is_drowning=was_answering and finding.reason in DROWNING_REASONS)
    counts, budget = facts.counts, memory.budget
    if spec is None or counts is None or budget is None:
        return Measurements()
    if not facts.sees_sessions:
        return Measurements(connections_percent=budget.used_percent)
    return Measurements(
        lock_waiters=counts.lock_waiters,
        active_per_core_percent=100.0 * counts.active / spec.cores if spec.cores else None,
        connections_percent=budget.used_percent,
        oldest_transaction_seconds=counts.oldest_transaction_seconds,
    )
