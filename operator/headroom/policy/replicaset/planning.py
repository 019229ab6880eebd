"""What to do next with a set of members: who serves, who leaves, who is made, who goes.

One pass plans only what its facts support; the next pass sees the result and goes on. Applied to its own result a plan
is empty. Never planned: a removal from the Service that leaves nobody there, unless nobody is wanted or the member is
not a replica of the primary any more.
"""

from collections.abc import Sequence
from datetime import datetime

from headroom.model.replica import PodFacts, Role, Stage
from headroom.policy.replicaset.drain import BY_CHOICE, DrainStep, decide_drain
from headroom.policy.replicaset.ejection import Ejection, EvaluatedMember, decide_ejections
from headroom.policy.replicaset.plan import Plan, Retirement, Targets
from headroom.policy.replicaset.readiness import is_within
from headroom.policy.replicaset.replacement import choose_cut_off
from headroom.reasons import Reason


def decide_plan(members: Sequence[EvaluatedMember], targets: Targets, now: datetime) -> Plan:
    """Plan one pass over all members, those that are going already included."""
    staying = [member for member in members if not member.facts.is_going]
    candidates = _rank_candidates(staying, targets)
    ejections = decide_ejections(
        staying,
        desired=targets.desired,
        bounds=targets.bounds,
        has_primary=targets.has_primary,
        has_substitute=bool(candidates),
    )
    failed = _retire_failed(staying)
    spent = _choose_spent(staying, targets, has_other=bool(ejections.good or candidates))
    base = Plan(
        eject=ejections.gone,
        accept=_accept(staying),
        retire=tuple(entry for entry in failed if entry.reason is Reason.WAL_CAP_REACHED),
        panic=ejections.panic,
        good=len(ejections.good),
    )
    if not targets.is_acting:
        return base
    good = ejections.good
    needed = max(targets.desired - len(good), 0) or _swap_drifted(good, candidates, targets)
    # Any candidate may be called into the Service in this pass: nothing else is planned for one of them.
    called = {member.name for member in candidates} if needed else set()
    to_pool, drained = _settle_drained(staying, called, targets, now)
    has_successor = spent is not None and spent.facts.role is Role.SERVING
    failed += [_retire_spent(spent)] if spent is not None and not has_successor else []
    leaving = {*(entry.name for entry in (*failed, *drained))}
    remaining = [member for member in staying if member.name not in leaving]
    excess = _retire_excess(remaining, called, targets, good=len(good))
    taken = {*to_pool, *base.accept, *(entry.name for entry in excess)}
    return Plan(
        needed=needed,
        activate=tuple(member.name for member in candidates),
        eject=base.eject,
        drain=_scale_in(staying, good, targets) if not base.eject else (),
        accept=base.accept,
        to_pool=to_pool,
        retire=(*failed, *drained, *excess),
        remake=_remake([member for member in remaining if member.name not in taken], targets, is_calm=not needed),
        provision=0
        if any(entry.is_failure for entry in failed)
        else _count_missing(remaining, targets, int(has_successor)),
        panic=base.panic,
        good=base.good,
    )


def _rank_candidates(staying: Sequence[EvaluatedMember], targets: Targets) -> list[EvaluatedMember]:
    """Who could serve now, least lagged first; members of an older template last, so that a swap moves forward."""

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
        lag = member.facts.lag
        seconds = lag.seconds if lag and lag.seconds is not None else 0.0
        backlog = lag.backlog_bytes if lag and lag.backlog_bytes is not None else 0
        return _is_drifted(member, targets), seconds, backlog, member.facts.id.ordinal

    return sorted((member for member in staying if is_fit(member)), key=rank)


def _swap_drifted(good: Sequence[EvaluatedMember], candidates: Sequence[EvaluatedMember], targets: Targets) -> int:
    """One more than wanted, for a moment: a member of the present template joins before one of an older leaves."""
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
    """A drained member goes back to the pool where warm ones are short, else it goes for good."""
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
    to_pool = tuple(member.name for member in drained[:room])
    gone = [Retirement(member.name, Reason.RETIRED, "it is not needed any more") for member in drained[room:]]
    return to_pool, gone


def _is_warm(member: EvaluatedMember) -> bool:
    """It serves, or could at once; one that is cut off or behind only looks like it."""
    if member.facts.role is Role.SERVING:
        return not (member.verdict.is_failed or member.verdict.is_cut_off)
    return member.facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY


def _choose_spent(staying: Sequence[EvaluatedMember], targets: Targets, *, has_other: bool) -> EvaluatedMember | None:
    """The member that is cut off and whose turn it is; one that serves gets a successor, the others go."""
    wanted, may_replace = targets.desired + targets.standbys, targets.may_replace and targets.has_primary
    return choose_cut_off(staying, wanted=wanted, may_replace=may_replace, has_other=has_other)


def _retire_failed(staying: Sequence[EvaluatedMember]) -> list[Retirement]:
    """Those given up; one that still serves is taken out of the Service first."""
    return [
        _retire_spent(member)
        for member in staying
        if member.verdict.is_failed and member.facts.role is not Role.SERVING
    ]


def _retire_spent(member: EvaluatedMember) -> Retirement:
    verdict, is_failure = member.verdict, member.facts.role in (None, Role.PROVISIONING)
    return Retirement(member.name, verdict.reason, verdict.message, is_failure)


def _retire_excess(
    remaining: Sequence[EvaluatedMember], called: set[str], targets: Targets, *, good: int
) -> list[Retirement]:
    """More than wanted beside those that serve well: the least far go first; draining ones settle by themselves."""
    if not targets.has_primary:
        return []
    movable = [member for member in remaining if member.facts.role not in (Role.SERVING, Role.DRAINING)]
    surplus = len(movable) - targets.standbys - max(targets.desired - good, 0)
    free = [member for member in movable if member.name not in called]
    goers = sorted(free, key=lambda member: _keep_rank(member, targets))[: max(surplus, 0)]
    return [Retirement(member.name, Reason.RETIRED, "it is not needed any more") for member in goers]


STAGE_ORDER = {stage: number for number, stage in enumerate(Stage)}


def _keep_rank(member: EvaluatedMember, targets: Targets) -> tuple[int, bool, float, int]:
    lag = member.facts.lag
    seconds = lag.seconds if lag and lag.seconds is not None else 0.0
    return STAGE_ORDER[member.verdict.stage], not _is_drifted(member, targets), -seconds, -member.facts.id.ordinal


def _remake(remaining: Sequence[EvaluatedMember], targets: Targets, *, is_calm: bool) -> tuple[str, ...]:
    """Pods that ended are made again on their claim; one standby of an older template at a time, when the set is whole.

    Where the newer template does not come up, the set is not whole any more, and no other standby is spent on it. A pod
    that an older template keeps from running is made again at once: the mistake was corrected.
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
    """Members to begin now: what is missing, within what may be made at once."""
    if not targets.may_provision:
        return 0
    missing = targets.desired + targets.standbys - len(remaining) + successors
    in_the_making = sum(member.facts.role in (None, Role.PROVISIONING) for member in remaining)
    return max(min(missing, targets.max_concurrent - in_the_making), 0)


def _is_held_up(pod: PodFacts) -> bool:
    """It runs nothing that could get anywhere: no copy, no replay."""
    is_running = pod.seed.is_running or pod.server.is_running or pod.is_ready
    return pod.role is Role.PROVISIONING and not is_running and not pod.is_deleting


def _is_drifted(member: EvaluatedMember, targets: Targets) -> bool:
    pod = member.facts.pod
    return targets.template is not None and pod is not None and pod.template != targets.template
