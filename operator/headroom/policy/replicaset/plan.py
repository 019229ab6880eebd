"""What to do next with a set of members: who serves, who leaves, who is created, who goes.

One pass plans only what its facts support; the next pass sees the result and continues. Applied to its own result, a
plan is empty. No plan takes the last member out of the Service, unless none is wanted or the member is no longer a
replica of the primary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.replica import PodFacts, Role, Stage
from headroom.policy.replicaset.drain import BY_CHOICE, DrainLimits, DrainStep, decide_drain
from headroom.policy.replicaset.ejection import Ejection, decide_ejections
from headroom.policy.replicaset.members import STAGE_ORDER, EvaluatedMember
from headroom.policy.replicaset.replay_lag import is_within
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Targets:
    """What is wanted, and what may be done towards it."""

    desired: int
    standbys: int
    max_concurrent: int
    bounds: Readiness
    drain: DrainLimits
    why: Reason
    is_acting: bool = True
    """False in DryRun and Paused."""
    may_reserve: bool = True
    """The primary admits one more member, and no failed attempt has to be waited out."""
    may_replace: bool = True
    """The primary would admit one more member once another is given up."""
    has_primary: bool = True
    template: str | None = None
    """The hash that a pod created now would have; None while it is not known."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """A member that goes for good; `is_failure` counts it as a failed attempt to create one."""

    name: str
    reason: Reason
    message: str
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class SessionsEnd:
    """A draining member whose sessions are to end now: the idle ones, or all."""

    name: str
    only_idle: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of this pass; within each tuple the order is the order of preference.

    `activate` lists all who could serve, best first; the first `needed` that are still fit are taken. `reserve` is how
    many members to begin, `restore_slots` names members whose slot is missing. `retire` marks a member, `remove` brings
    one that is marked a step nearer to its end. `lag_panic` says why members beyond the bound are kept, `good` how many
    serve well.
    """

    needed: int = 0
    activate: tuple[str, ...] = ()
    eject: tuple[Ejection, ...] = ()
    accept: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()
    drain: tuple[Ejection, ...] = ()
    end_sessions: tuple[SessionsEnd, ...] = ()
    retire: tuple[Retirement, ...] = ()
    remove: tuple[str, ...] = ()
    recreate: tuple[str, ...] = ()
    restore_slots: tuple[str, ...] = ()
    seed: tuple[str, ...] = ()
    reserve: int = 0
    lag_panic: str = ""
    good: int = 0

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to do."""
        return replace(self, activate=self.activate if self.needed else (), needed=0, lag_panic="", good=0) == Plan()


def decide_plan(members: Sequence[EvaluatedMember], targets: Targets, now: datetime) -> Plan:
    """Plan one pass over all members, including those that are going."""
    plan = _plan_moves([member for member in members if not member.facts.is_going], targets, now)
    leaving = {entry.name for entry in plan.retire}
    staying = [
        member
        for member in members
        if not (member.facts.is_going or member.name in leaving or member.verdict.is_failed)
    ]
    return replace(
        plan,
        end_sessions=_end_sessions(members, targets, now),
        remove=tuple(member.name for member in members if member.facts.is_going),
        restore_slots=tuple(m.name for m in staying if m.facts.slot is None) if targets.has_primary else (),
        seed=tuple(m.name for m in staying if _is_to_be_seeded(m, targets)) if targets.template is not None else (),
    )


def _plan_moves(staying: Sequence[EvaluatedMember], targets: Targets, now: datetime) -> Plan:
    """The steps that move, add or retire members; the rest of a plan maintains those that stay."""
    candidates = _rank_candidates(staying, targets)
    ejections = decide_ejections(
        staying,
        desired=targets.desired,
        bounds=targets.bounds,
        has_primary=targets.has_primary,
        has_substitute=bool(candidates),
    )
    good = ejections.good
    failed = _retire_failed(staying)
    replaced = _choose_replacement(staying, targets, has_other=bool(good or candidates))
    base = Plan(
        eject=ejections.gone,
        accept=_accept(staying),
        retire=tuple(entry for entry in failed if entry.reason is Reason.WAL_CAP_REACHED),
        lag_panic=ejections.lag_panic,
        good=len(good),
    )
    if not targets.is_acting:
        return base
    needed = max(targets.desired - len(good), 0) or _swap_drifted(good, candidates, targets)
    # This pass may put any candidate into the Service, so nothing else is planned for one of them.
    called = {member.name for member in candidates} if needed else set()
    pool, drained = _settle_drained(staying, called, targets, now)
    has_successor = replaced is not None and replaced.facts.role is Role.SERVING
    failed += [_retire(replaced)] if replaced is not None and not has_successor else []
    leaving = {entry.name for entry in (*failed, *drained)}
    remaining = [member for member in staying if member.name not in leaving]
    excess = _retire_excess(remaining, called, targets, good=len(good))
    # A new member may be caught up and not wanted any more: it goes as it is.
    leaving |= {entry.name for entry in excess}
    accept = tuple(name for name in base.accept if name not in leaving)
    taken = {*pool, *accept, *leaving}
    free = [member for member in remaining if member.name not in taken]
    has_failure = any(entry.is_failure for entry in failed)
    return replace(
        base,
        accept=accept,
        needed=needed,
        activate=tuple(member.name for member in candidates),
        drain=_scale_in(staying, good, targets) if not base.eject else (),
        pool=pool,
        retire=(*failed, *drained, *excess),
        recreate=_recreate(free, targets, is_calm=not needed),
        reserve=0 if has_failure else _count_missing(remaining, targets, int(has_successor)),
    )


def _rank_candidates(staying: Sequence[EvaluatedMember], targets: Targets) -> list[EvaluatedMember]:
    """Who could serve now, least lag first; members of an older template last, so that a swap makes progress."""

    def is_fit(member: EvaluatedMember) -> bool:
        facts = member.facts
        if not facts.is_alive or facts.pod is None or not facts.pod.is_ready or facts.unanswered:
            return False
        if not is_within(facts.lag, targets.bounds):
            return False
        if facts.role is Role.DRAINING:
            return facts.pod.why in BY_CHOICE
        return facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY

    def rank(member: EvaluatedMember) -> tuple[bool, float, int, int]:
        lag = member.facts.measured
        seconds, backlog = (lag.seconds, lag.bytes) if lag is not None else (0.0, 0)
        return _is_drifted(member, targets), seconds, backlog, member.facts.id.ordinal

    return sorted((member for member in staying if is_fit(member)), key=rank)


def _swap_drifted(good: Sequence[EvaluatedMember], candidates: Sequence[EvaluatedMember], targets: Targets) -> int:
    """One more than wanted, for a moment: a member of the present template joins before an older one leaves."""
    has_old = any(_is_drifted(member, targets) for member in good)
    has_new = any(not _is_drifted(member, targets) for member in candidates)
    return 1 if len(good) == targets.desired and has_old and has_new and targets.has_primary else 0


def _scale_in(
    staying: Sequence[EvaluatedMember], good: Sequence[EvaluatedMember], targets: Targets
) -> tuple[Ejection, ...]:
    """One at a time, not while another drains, not while the primary does not answer."""
    if len(good) <= targets.desired or not targets.has_primary:
        return ()
    if any(member.facts.role is Role.DRAINING for member in staying):
        return ()
    victim = max(good, key=lambda member: _drain_rank(member, targets))
    return (Ejection(victim.name, targets.why, f"{len(good)} serve, {targets.desired} wanted"),)


def _drain_rank(member: EvaluatedMember, targets: Targets) -> tuple[bool, bool, int, int]:
    probe = member.facts.probe
    is_unfit = not is_within(member.facts.lag, targets.bounds)
    return _is_drifted(member, targets), is_unfit, -(probe.active_sessions if probe else 0), member.facts.id.ordinal


def _accept(staying: Sequence[EvaluatedMember]) -> tuple[str, ...]:
    """New members that are caught up become standbys."""
    return tuple(
        member.name
        for member in staying
        if member.facts.role is Role.PROVISIONING and member.verdict.stage is Stage.STANDBY
    )


def _settle_drained(
    staying: Sequence[EvaluatedMember], called: set[str], targets: Targets, now: datetime
) -> tuple[tuple[str, ...], list[Retirement]]:
    """A drained member goes back to the pool if standbys are missing, else it goes for good."""
    drained = [
        member
        for member in staying
        if member.facts.role is Role.DRAINING
        and member.name not in called
        and not member.verdict.is_failed
        and decide_drain(member.facts, targets.drain, now) is DrainStep.DONE
    ]
    warm = sum(_is_warm(member) or member.name in called for member in staying)
    room = max(targets.desired + targets.standbys - warm, 0)
    pool = tuple(member.name for member in drained[:room])
    gone = [Retirement(member.name, Reason.RETIRED, "it is not needed any more") for member in drained[room:]]
    return pool, gone


def _is_warm(member: EvaluatedMember) -> bool:
    """It serves, or could at once, and is neither behind nor due for replacement."""
    if member.facts.role is Role.SERVING:
        return not (member.verdict.is_failed or member.verdict.is_due_for_replacement)
    return member.facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY


def _choose_replacement(
    staying: Sequence[EvaluatedMember], targets: Targets, *, has_other: bool
) -> EvaluatedMember | None:
    """Of the members due for replacement, the one whose turn it is: new ones, standbys, then one that serves.

    The same cause may affect all, and each new member as well. So the next one is given up only after the one before
    was replaced by a member that streams; if that fails, the rest stays as it is. One that serves stays where it is,
    and a member more than wanted is begun beside it; `has_other`: another one serves well, or is about to.
    """
    if not (targets.may_replace and targets.has_primary):
        return None
    wanted = targets.desired + targets.standbys
    due = [member for member in staying if member.verdict.is_due_for_replacement]
    due.sort(key=lambda member: member.facts.id)
    new = [member for member in staying if member.facts.role in (None, Role.PROVISIONING)]
    if new:
        return next((member for member in due if member in new), None)
    standby = next((member for member in due if member.facts.role is Role.STANDBY), None)
    if standby is not None and len(staying) >= wanted:
        return standby
    serving = next((member for member in due if member.facts.role is Role.SERVING), None)
    return serving if len(staying) == wanted and not has_other else None


def _retire_failed(staying: Sequence[EvaluatedMember]) -> list[Retirement]:
    """Members that are given up; one that still serves leaves the Service first."""
    return [_retire(member) for member in staying if member.verdict.is_failed and member.facts.role is not Role.SERVING]


def _retire(member: EvaluatedMember) -> Retirement:
    verdict, is_failure = member.verdict, member.facts.role in (None, Role.PROVISIONING)
    return Retirement(member.name, verdict.reason, verdict.message, is_failure)


def _retire_excess(
    remaining: Sequence[EvaluatedMember], called: set[str], targets: Targets, *, good: int
) -> list[Retirement]:
    """Members beyond the wanted count, the least far first; draining ones are not counted, since they leave anyway."""
    if not targets.has_primary:
        return []
    movable = [member for member in remaining if member.facts.role not in (Role.SERVING, Role.DRAINING)]
    surplus = len(movable) - targets.standbys - max(targets.desired - good, 0)
    free = [member for member in movable if member.name not in called]
    goers = sorted(free, key=lambda member: _keep_rank(member, targets))[: max(surplus, 0)]
    return [Retirement(member.name, Reason.RETIRED, "it is not needed any more") for member in goers]


def _keep_rank(member: EvaluatedMember, targets: Targets) -> tuple[int, bool, float, int]:
    lag = member.facts.measured
    seconds = lag.seconds if lag is not None else 0.0
    return STAGE_ORDER[member.verdict.stage], not _is_drifted(member, targets), -seconds, -member.facts.id.ordinal


def _recreate(remaining: Sequence[EvaluatedMember], targets: Targets, *, is_calm: bool) -> tuple[str, ...]:
    """Pods that ended are recreated on their claim; one standby of an older template at a time, when the set is whole.

    If the newer template does not start, the set is no longer whole, so no other standby is spent on it. A pod that
    cannot run because of its older template is recreated at once: the template may have been corrected.
    """
    pods = [(member, member.facts.pod) for member in remaining if member.facts.pod is not None]
    ended = [member.name for member, pod in pods if pod.is_ended or (_is_drifted(member, targets) and _is_held_up(pod))]
    is_calm = is_calm and all(member.verdict.stage in (Stage.STANDBY, Stage.SERVING) for member in remaining)
    is_calm = is_calm and len(remaining) >= targets.desired + targets.standbys
    old = [
        member.name
        for member in remaining
        if member.verdict.stage is Stage.STANDBY and member.facts.role is Role.STANDBY and _is_drifted(member, targets)
    ]
    return (*ended, *(old[:1] if is_calm and targets.has_primary else ()))


def _count_missing(remaining: Sequence[EvaluatedMember], targets: Targets, successors: int) -> int:
    """Members to begin now: what is missing, within what may be created at once."""
    if not targets.may_reserve:
        return 0
    missing = targets.desired + targets.standbys - len(remaining) + successors
    unfinished = sum(member.facts.role in (None, Role.PROVISIONING) for member in remaining)
    return max(min(missing, targets.max_concurrent - unfinished), 0)


def _is_held_up(pod: PodFacts) -> bool:
    """It runs nothing that makes progress: no copy, no replay."""
    is_running = pod.seed.is_running or pod.server.is_running or pod.is_ready
    return pod.role is Role.PROVISIONING and not is_running and not pod.is_deleting


def _is_drifted(member: EvaluatedMember, targets: Targets) -> bool:
    pod = member.facts.pod
    return targets.template is not None and pod is not None and pod.template != targets.template


def _end_sessions(members: Sequence[EvaluatedMember], targets: Targets, now: datetime) -> tuple[SessionsEnd, ...]:
    """A member that does not answer has no session that could be ended."""
    steps = [
        (member.name, decide_drain(member.facts, targets.drain, now))
        for member in members
        if member.facts.role is Role.DRAINING and not (member.facts.is_going or member.facts.unanswered)
    ]
    ending = (DrainStep.END_IDLE, DrainStep.END_ALL)
    return tuple(SessionsEnd(name, step is DrainStep.END_IDLE) for name, step in steps if step in ending)


def _is_to_be_seeded(member: EvaluatedMember, targets: Targets) -> bool:
    """It has no pod. Its copy needs its slot first, and the slot is not known while the primary does not answer."""
    facts = member.facts
    return facts.pod is None and (facts.slot is not None or not targets.has_primary)
