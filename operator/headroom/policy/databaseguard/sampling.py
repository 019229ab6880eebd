"""From observations to samples, connection plan and state of a server: the next memory of it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.model.conditions import Finding
from headroom.policy.databaseguard.budget import plan_connections
from headroom.policy.databaseguard.facts import GuardFacts, Observation, ServerMemory, SharedPlan, limits_of
from headroom.policy.databaseguard.signals import ACTIVE_PER_CORE, COMMIT_LATENCY, Level, Measurements, judge, worst_of
from headroom.policy.databaseguard.state import GAP_SECONDS, advance_state
from headroom.reasons import Reason

SAMPLE_SECONDS = 5.0
"""A sample is the worst of a span of this length. Spans begin at multiples of it: all guards take the same samples."""
ANSWERED_LATELY_SECONDS = GAP_SECONDS
DROWNING_REASONS = frozenset({Reason.PRIMARY_TIMEOUT, Reason.NO_CONNECTION_LEFT})


def measure_server(
    memory: ServerMemory, spec: DatabaseGuardSpec | None, facts: GuardFacts, finding: Finding | None, now: float
) -> ServerMemory:
    """Take what one pass observed into account; `finding` is why the server could not be used."""
    if finding is not None or spec is None or facts.observation is None:
        return _observe_outage(memory, spec, finding, facts.turns, now)
    memory = replace(memory, planned=_plan(memory, spec, facts, facts.observation, now))
    for observation in facts.find_new(memory):
        memory = _observe(memory, spec, observation, facts.turns)
    return replace(memory, answered_at=now)


def _observe(
    memory: ServerMemory, spec: DatabaseGuardSpec, observation: Observation, turns: Sequence[float | None]
) -> ServerMemory:
    """Take one observation into account, at the time at which it was made."""
    at = observation.observed_at
    memory = replace(memory, counts=observation.counts, observed_at=at)
    memory = replace(memory, worst=worst_of(memory.worst, _measure(memory, spec, observation)))
    # The first sample is short, one answered canary: until there is a state the guard is not Ready.
    is_first_answer = not memory.has_had_state and bool(observation.window.marks)
    if not is_first_answer and not _is_whole(memory, at):
        return memory
    # A guard without a canary takes no commits from the canary of another one.
    commit = observation.window.worst_since(memory.sampled_at, at) if spec.canary.enabled else None
    return _close_sample(memory, Measurements(commit_seconds=commit), spec, turns, at)


def _observe_outage(
    memory: ServerMemory,
    spec: DatabaseGuardSpec | None,
    finding: Finding | None,
    turns: Sequence[float | None],
    now: float,
) -> ServerMemory:
    """Nothing was measured. Commits do not count either: a canary fails for other reasons as well."""
    was_answering = memory.answered_at is not None and now - memory.answered_at < ANSWERED_LATELY_SECONDS
    is_drowning = was_answering and finding is not None and finding.reason in DROWNING_REASONS
    worst = worst_of(memory.worst, Measurements(is_drowning=is_drowning))
    memory = replace(memory, worst=worst, observed_at=now)
    if not _is_whole(memory, now):
        return memory
    return _close_sample(memory, Measurements(), spec, turns, now)


def _close_sample(
    memory: ServerMemory,
    rest: Measurements,
    spec: DatabaseGuardSpec | None,
    turns: Sequence[float | None],
    now: float,
) -> ServerMemory:
    thresholds = Thresholds() if spec is None else spec.thresholds
    sample, ignored = worst_of(memory.worst, rest), () if spec is None else tuple(_find_ignored(spec))
    before = memory.state
    state = advance_state(before, sample, thresholds, now, ignored=ignored, baseline=memory.calm.baseline)
    present = before.level or Level.HEALTHY
    is_above = bool(state.verdicts) and state.verdicts[-1].level > present and not sample.is_blind
    # By the bounds as they are written: one that is ignored because of the baseline must not let that rise further.
    is_calm = not is_above and judge(sample, thresholds).level is Level.HEALTHY
    turn = memory.turn.observe(now, is_above=is_above)
    if state.level is not None and state.level > present:
        turn = turn.suspect(turns, now)
        state = state.stay(before) if turn.is_holding(now) else state
    return replace(
        memory,
        state=state,
        worst=Measurements(),
        sampled_at=now,
        has_had_state=memory.has_had_state or state.level is not None,
        calm=memory.calm.observe(sample, state.level if is_calm else None, now),
        turn=turn,
    )


def _find_ignored(spec: DatabaseGuardSpec) -> Iterator[str]:
    """What the spec does not ask to be measured: its absence is not a gap."""
    if not spec.canary.enabled:
        yield COMMIT_LATENCY
    if spec.cores is None:
        yield ACTIVE_PER_CORE


def _is_whole(memory: ServerMemory, now: float) -> bool:
    """A late pass may end a sample late. The next one then ends with its own span, unless that is nearly over."""
    is_next_span = now // SAMPLE_SECONDS > memory.sampled_at // SAMPLE_SECONDS
    return is_next_span and now - memory.sampled_at >= SAMPLE_SECONDS / 2


def _plan(
    memory: ServerMemory, spec: DatabaseGuardSpec, facts: GuardFacts, observation: Observation, now: float
) -> SharedPlan:
    """The next plan for the namespace's pools, from the newest one that any of its guards has made."""
    newest = max(filter(None, (memory.planned, facts.planned)), key=lambda planned: planned.made_at, default=None)
    limits = {**facts.limits, facts.name: limits_of(spec)}
    previous = None if newest is None else newest.plan
    plan = plan_connections(facts.name, observation.counts, limits, facts.demands, now=now, previous=previous)
    return SharedPlan(now, plan)


def _measure(memory: ServerMemory, spec: DatabaseGuardSpec, observation: Observation) -> Measurements:
    """One observation's measurements, the canary's apart."""
    counts, budget = observation.counts, memory.budget
    usable = 0 if budget is None else budget.usable
    connections_percent = 100.0 * counts.used / usable if usable else 100.0
    if not observation.sees_sessions:
        return Measurements(connections_percent=connections_percent)
    return Measurements(
        lock_waiters=counts.lock_waiters,
        active_per_core_percent=100.0 * counts.active / spec.cores if spec.cores else None,
        connections_percent=connections_percent,
        oldest_transaction_seconds=counts.oldest_transaction_seconds,
    )
