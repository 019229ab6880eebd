"""The decision of a guard's pass: whether its server can be used, how it is, and who may hold how much of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.thresholds import Thresholds
from headroom.model.conditions import Finding, Truth
from headroom.model.database import Allocation, ConnectionBudget, ConnectionCounts, Mark, ServerFacts, SlotFacts
from headroom.model.frozen import FrozenMap
from headroom.model.moments import FIRST_SIGHT_SECONDS, Moment
from headroom.model.replica import SLOT_PATTERN, SWEEP_AFTER
from headroom.policy import Outcome
from headroom.policy.databaseguard.facts import GuardFacts, GuardMemory
from headroom.policy.databaseguard.identity import check_identity
from headroom.policy.databaseguard.notes import find_notes, find_state_notes, find_worst
from headroom.policy.databaseguard.sampling import DROWNING_REASONS, SAMPLE_SECONDS, measure_server
from headroom.policy.databaseguard.signals import Level
from headroom.policy.databaseguard.state import StateMemory
from headroom.policy.not_yet import describe_not_yet
from headroom.reasons import Reason

TRANSIENT_REASONS = frozenset(
    {
        Reason.IN_PROGRESS,
        Reason.PRIMARY_TIMEOUT,
        Reason.PRIMARY_UNREACHABLE,
        Reason.NO_CONNECTION_LEFT,
        Reason.KUBE_UNAVAILABLE,
    }
)
"""What a new process may meet while the old one ends; it says nothing about the server."""
SWEEP_EVERY_SECONDS = 60.0
TYPICAL_SECONDS = 60.0
"""While a server is well, the median commit of this long tells more than the worst one of the last seconds."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """One move of the state, for the event about it."""

    before: StateMemory
    after: StateMemory


@dataclass(frozen=True, slots=True)
class GuardDecision:
    """What follows from one observation; everything that a person sees is rendered from it.

    `finding` is why the server cannot be used; None means that it can. `ready` and `ready_finding` are the verdict
    about the guard. `is_early` is true while a new process may keep what status says, `is_settling` while it does.
    `state` is the one to publish, `level` the same, None for Unknown. `counts` are of this pass; `budget` and
    `allocations` hold on while nothing can be counted. `sweep` names slots of sets that are gone.
    """

    finding: Finding | None
    ready: Truth
    ready_finding: Finding
    state: GuardState
    level: Level | None
    thresholds: Thresholds
    is_early: bool = False
    is_settling: bool = False
    sees_sessions: bool = False
    counts: ConnectionCounts | None = None
    budget: ConnectionBudget | None = None
    allocations: FrozenMap[str, Allocation] = field(default_factory=FrozenMap)
    commit_seconds: float | None = None
    typical_commit_seconds: float | None = None
    mark_age_seconds: float | None = None
    marks: tuple[Mark, ...] = ()
    notes: tuple[Finding, ...] = ()
    change: StateChange | None = None
    has_new_reason: bool = False
    sweep: tuple[str, ...] = ()
    must_disconnect: bool = False

    @property
    def is_usable(self) -> bool:
        """True when the server is the right one and answers."""
        return self.finding is None


def decide(
    spec: DatabaseGuardSpec | None, facts: GuardFacts, memory: GuardMemory, now: Moment
) -> Outcome[GuardDecision, GuardMemory]:
    """Evaluate one observation; `spec` is None for a spec that cannot be acted on, and `facts.problem` says why."""
    mismatch = None if facts.problem is not None else find_mismatch(facts, memory)
    finding = facts.problem or mismatch or _find_wait(facts)
    if finding is None and facts.server is not None:
        memory = memory.observe(facts.server)
    is_settling = _is_early(memory, now.monotonic) and _is_transient(facts, memory, finding)
    if not (is_settling and finding is not None):
        # A new process that has seen nothing yet must not forget the state for that.
        memory = replace(memory, server=measure_server(memory.server, spec, facts, finding, now.monotonic))
    decision = _evaluate(spec, facts, memory, finding, now.monotonic)
    if is_settling and finding is not None:
        decision = replace(decision, state=memory.shown, level=memory.server.state.level)
    decision = replace(decision, is_settling=is_settling, must_disconnect=mismatch is not None)
    return _remember(decision, facts, memory, now.monotonic)


def find_mismatch(facts: GuardFacts, memory: GuardMemory) -> Finding | None:
    """Why the server that answered is not the one to use; the links to it lead astray and must be closed."""
    server = facts.server
    if server is None:
        return None
    mismatch = check_identity(
        server,
        pinned=memory.system_identifier,
        accepted=facts.accepted,
        highest_timeline=memory.highest_timeline,
        name=facts.name,
    )
    if mismatch is None and _has_moved(facts, server):
        message = "the host name leads to another server now; it is being connected to"
        return Finding(Reason.IN_PROGRESS, message)
    return mismatch


def _has_moved(facts: GuardFacts, server: ServerFacts) -> bool:
    """True when the probes' connection, which is reopened now and then, ends at another server than the canary's."""
    marks = facts.window.marks
    if facts.is_follower or not marks or marks[-1].taken_at < facts.link_opened_at:
        return False
    return marks[-1].system_identifier != server.system_identifier or marks[-1].timeline < server.timeline


def _find_wait(facts: GuardFacts) -> Finding | None:
    if facts.server is None:
        return Finding(Reason.IN_PROGRESS, "the server has not been asked yet")
    if not facts.server.has_installation_lock:
        message = (
            "another process of this operator is still connected to the server, and is asked to end; if it stays, see "
            "application_name LIKE 'headroom/guard/%' in pg_stat_activity"
        )
        return Finding(Reason.IN_PROGRESS, message)
    return None


def _evaluate(
    spec: DatabaseGuardSpec | None, facts: GuardFacts, memory: GuardMemory, finding: Finding | None, now: float
) -> GuardDecision:
    server, window = memory.server, facts.window
    notes = find_notes(spec, facts, server.budget) if finding is None and spec is not None else ()
    notes = (*notes, *find_state_notes(spec, server, now))
    ready, ready_finding = _evaluate_ready(spec, facts, notes, finding, has_state=server.has_had_state)
    state = _show(server.state, finding)
    has_canary = spec is not None and spec.canary.enabled
    # A round that was open in an observation may be answered by now: its age counts at the time of the observation.
    at = now if server.observed_at is None else server.observed_at
    return GuardDecision(
        finding=finding,
        ready=ready,
        ready_finding=ready_finding,
        state=state,
        level=server.state.level if state is server.state.state else None,
        thresholds=spec.thresholds if spec is not None else Thresholds(),
        is_early=_is_early(memory, now),
        sees_sessions=facts.sees_sessions,
        counts=server.counts if finding is None else None,
        budget=server.budget,
        allocations=server.allocations,
        commit_seconds=window.worst_since(at - 2 * SAMPLE_SECONDS, at) if has_canary else None,
        typical_commit_seconds=window.typical_since(at - TYPICAL_SECONDS) if has_canary else None,
        mark_age_seconds=now - window.marks[-1].taken_at if window.marks else None,
        marks=window.marks,
        notes=notes,
    )


def _evaluate_ready(
    spec: DatabaseGuardSpec | None,
    facts: GuardFacts,
    notes: Sequence[Finding],
    finding: Finding | None,
    *,
    has_state: bool,
) -> tuple[Truth, Finding]:
    """Whether the server is usable; a login for replication that does not work is reported here, the rest continues."""
    if finding is not None:
        return Truth.FALSE, finding
    if facts.replication_problem is not None:
        message = f"replicas cannot be made, the rest works: {facts.replication_problem.message}"
        return Truth.FALSE, Finding(facts.replication_problem.reason, message)
    if not has_state:
        message = "the server answers; its state is known once the canary was answered and one sample was taken"
        return Truth.UNKNOWN, Finding(Reason.IN_PROGRESS, message)
    ignored = describe_not_yet(spec) if spec is not None else ""
    message = "; ".join(filter(None, ["the server answers", *(note.message for note in notes), ignored]))
    return Truth.TRUE, Finding(find_worst(notes), message)


def _is_early(memory: GuardMemory, now: float) -> bool:
    return memory.is_resumed and now - memory.seen_at < FIRST_SIGHT_SECONDS


def _is_transient(facts: GuardFacts, memory: GuardMemory, finding: Finding | None) -> bool:
    """True while the obstacle says nothing about the server yet, or another guard of it has not come yet."""
    if finding is not None:
        return not memory.has_observed and finding.reason in TRANSIENT_REASONS
    if memory.reported_reason is Reason.SHARED_INSTANCE and not facts.local_guards and not facts.foreign_guards:
        return True
    problem = facts.replication_problem
    return problem is not None and problem.reason in TRANSIENT_REASONS


def _show(state: StateMemory, finding: Finding | None) -> GuardState:
    """The state to publish: Unknown at once while the server cannot be used, though the memory outlasts a gap.

    A server that misses its deadlines is Overloaded by that very fact, and shown so.
    """
    if finding is None or state.level is None:
        return state.state
    is_shown_by_deadlines = finding.reason in DROWNING_REASONS and state.level >= Level.OVERLOADED
    return state.state if is_shown_by_deadlines else GuardState.UNKNOWN


def _remember(
    decision: GuardDecision, facts: GuardFacts, memory: GuardMemory, now: float
) -> Outcome[GuardDecision, GuardMemory]:
    """Add what is to be reported and swept, and remember it as done."""
    decision, memory = _report(decision, memory)
    shown_since = memory.shown_since if decision.state is memory.shown and memory.shown_since is not None else now
    memory = replace(memory, shown=decision.state, shown_since=shown_since)
    if not facts.is_sweep_due or decision.ready is not Truth.TRUE:
        return Outcome(decision, memory)
    memory = replace(memory, swept_at=now)
    if facts.slots is None:
        return Outcome(decision, memory)
    memory = replace(memory, idle_since=_observe_idle(memory.idle_since, facts.slots, now))
    return Outcome(replace(decision, sweep=_find_orphans(facts, memory.idle_since, now)), memory)


def _report(decision: GuardDecision, memory: GuardMemory) -> tuple[GuardDecision, GuardMemory]:
    if decision.is_settling:
        return decision, memory
    before, after = memory.reported_state, memory.server.state
    change = StateChange(before, after) if before.level is not after.level else None
    reason = decision.ready_finding.reason
    has_new_reason = reason is not memory.reported_reason and decision.ready is not Truth.UNKNOWN
    memory = replace(memory, reported_state=after, reported_reason=reason)
    return replace(decision, change=change, has_new_reason=has_new_reason), memory


def is_sweep_due(memory: GuardMemory, now: float) -> bool:
    """True once a minute; `now` is monotonic seconds."""
    return memory.swept_at is None or now - memory.swept_at >= SWEEP_EVERY_SECONDS


def _observe_idle(before: Mapping[str, float], slots: Sequence[SlotFacts], now: float) -> FrozenMap[str, float]:
    return FrozenMap((slot.name, before.get(slot.name, now)) for slot in slots if not slot.is_active)


def _find_orphans(facts: GuardFacts, idle_since: Mapping[str, float], now: float) -> tuple[str, ...]:
    """Slots that nobody has used for long and whose set is not there; any other slot is never touched."""
    limit, found = SWEEP_AFTER.total_seconds(), []
    for slot in facts.slots or ():
        match = SLOT_PATTERN.fullmatch(slot.name)
        is_idle = slot.name in idle_since and slot.idle_seconds(now - idle_since[slot.name]) >= limit
        if is_idle and match is not None and match[2] not in facts.live_sets:
            found.append(slot.name)
    return tuple(found)
