"""Which members go for good, which pods are recreated, and how many new members are begun."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from headroom.model.replica import PodFacts, Role, Stage
from headroom.policy.replicaset.failover import is_diverged
from headroom.policy.replicaset.members import STAGE_ORDER, EvaluatedMember
from headroom.policy.replicaset.targets import Targets, is_drifted
from headroom.policy.replicaset.timeouts import PROBES_TO_LEAVE, SILENCE_LIMIT
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Retirement:
    """A member that goes for good; `is_failure` counts it as a failed attempt to create one."""

    name: str
    reason: Reason
    message: str
    is_failure: bool = False


def retire(member: EvaluatedMember) -> Retirement:
    """Give a member up for what its verdict says."""
    verdict, is_failure = member.verdict, member.facts.role in (None, Role.PROVISIONING)
    return Retirement(member.name, verdict.reason, verdict.message, is_failure)


def retire_unneeded(name: str) -> Retirement:
    """Nothing is wrong with it."""
    return Retirement(name, Reason.RETIRED, "it is not needed any more")


def find_staying(members: Sequence[EvaluatedMember]) -> list[EvaluatedMember]:
    """Members that are neither going nor stopped for a snapshot."""
    return [member for member in members if member.facts.is_staying]


def retire_sources(members: Sequence[EvaluatedMember]) -> list[Retirement]:
    """Members that were stopped for a snapshot and cannot follow the primary any more: no attempt to create one failed
    by that.
    """
    failed = [member for member in members if member.facts.is_source and member.verdict.is_failed]
    return [Retirement(member.name, member.verdict.reason, member.verdict.message) for member in failed]


def retire_failed(staying: Sequence[EvaluatedMember]) -> list[Retirement]:
    """Members that are given up; one that still serves leaves the Service first, and diverged ones wait their turn."""
    failed = [member for member in staying if member.verdict.is_failed and not is_diverged(member)]
    # A pod that is being deleted has left the Service by that.
    return [retire(member) for member in failed if not (member.facts.role is Role.SERVING and member.facts.is_alive)]


def choose_replacement(
    staying: Sequence[EvaluatedMember], targets: Targets, *, has_other: bool
) -> EvaluatedMember | None:
    """Of the members due for replacement, the one whose turn it is: new ones, standbys, then one that serves.

    The same cause may affect all, and each new member as well. So the next one is given up only after the one before
    was replaced by a member that streams; if that fails, the rest stays as it is. One that serves stays where it is,
    and a member more than wanted is begun beside it; `has_other`: another one serves well, or is about to.
    """
    if not (targets.may_replace and targets.has_primary):
        return None
    wanted = targets.wanted
    outdated = [member for member in staying if is_outdated(member, targets)]
    due = [member for member in staying if member.verdict.is_due_for_replacement or member in outdated]
    due.sort(key=lambda member: member.facts.id)
    new = [member for member in staying if member.facts.role in (None, Role.PROVISIONING)]
    if new:
        return next((member for member in due if member in new), None)
    standby = next((member for member in due if member.facts.role is Role.STANDBY), None)
    if standby is not None and len(staying) >= wanted:
        return standby
    serving = next((member for member in due if member.facts.role is Role.SERVING), None)
    return serving if len(staying) == wanted and (serving in outdated or not has_other) else None


def retire_excess(
    remaining: Sequence[EvaluatedMember], called: Collection[str], targets: Targets, *, good: int
) -> list[Retirement]:
    """Members beyond the wanted count, the least far first; draining ones are not counted, since they leave anyway."""
    if not targets.has_primary:
        return []
    movable = [member for member in remaining if member.facts.role not in (Role.SERVING, Role.DRAINING)]
    surplus = len(movable) - targets.standbys - targets.keeps_one_more - max(targets.desired - good, 0)
    free = [member for member in movable if member.name not in called]
    goers = sorted(free, key=lambda member: _keep_rank(member, targets))[: max(surplus, 0)]
    return [retire_unneeded(member.name) for member in goers]


def _keep_rank(member: EvaluatedMember, targets: Targets) -> tuple[int, bool, float, int]:
    lag = member.facts.measured
    seconds = lag.seconds if lag is not None else 0.0
    return STAGE_ORDER[member.verdict.stage], not is_drifted(member, targets), -seconds, -member.facts.id.ordinal


def recreate(remaining: Sequence[EvaluatedMember], targets: Targets, *, is_calm: bool) -> tuple[str, ...]:
    """Pods that ended are recreated on their claim; one standby of an older template at a time, when the set is whole.

    A copy that has lost its source begins again from another one, as the same member.

    If the newer template does not start, the set is no longer whole, so no other standby is spent on it. A pod that
    cannot run, or may not serve, because of its older template is recreated at once: the template may have been
    corrected. The same holds for a standby that cannot be reached, as long as those of the present template are well;
    one of the present template itself is given more time to come back.
    """
    pods = [(member, member.facts.pod) for member in remaining if member.facts.pod is not None]
    ended = [
        member.name
        for member, pod in pods
        if pod.is_ended
        or member.name in targets.copies.lost
        or (is_drifted(member, targets) and (_is_held_up(pod) or _is_useless(member)))
    ]
    drifted = [member for member in remaining if is_drifted(member, targets)]
    cut_off = [member for member in remaining if _is_cut_off(member, is_drifted=member in drifted)]
    if all(_is_well(member) for member in remaining if member not in (*drifted, *cut_off)):
        ended += [member.name for member in cut_off[:1] if targets.has_primary]
    is_calm = is_calm and all(map(_is_well, remaining))
    is_calm = is_calm and len(remaining) >= targets.wanted
    old = [
        member.name
        for member in remaining
        if member.verdict.stage is Stage.STANDBY and member.facts.role is Role.STANDBY and is_drifted(member, targets)
    ]
    return (*ended, *(old[:1] if is_calm and targets.has_primary else ()))


def _is_well(member: EvaluatedMember) -> bool:
    return member.verdict.stage in (Stage.STANDBY, Stage.SERVING)


def _is_cut_off(member: EvaluatedMember, *, is_drifted: bool) -> bool:
    """A standby that does not answer our probes: it is of no use as it is."""
    facts = member.facts
    is_silent = facts.unanswered >= PROBES_TO_LEAVE
    is_long = is_drifted or facts.silent_seconds >= SILENCE_LIMIT.total_seconds()
    return facts.is_alive and facts.role is Role.STANDBY and is_silent and is_long


def _is_useless(member: EvaluatedMember) -> bool:
    """It waits, and may not serve with the libraries of its image."""
    facts = member.facts
    return facts.is_alive and facts.has_other_libraries and facts.role in (Role.PROVISIONING, Role.STANDBY)


def is_outdated(member: EvaluatedMember, targets: Targets) -> bool:
    """It serves with the libraries of an image that the spec has replaced since."""
    return member.facts.has_other_libraries and member.facts.role is Role.SERVING and is_drifted(member, targets)


def _is_held_up(pod: PodFacts) -> bool:
    """It runs nothing that makes progress: no copy, no replay."""
    is_running = pod.seed.is_running or pod.server.is_running or pod.is_ready
    return pod.role is Role.PROVISIONING and not is_running and not pod.is_deleting


def count_missing(remaining: Sequence[EvaluatedMember], targets: Targets, successors: int) -> int:
    """Members to begin now: what is missing, within what may be created at once."""
    if not targets.may_reserve:
        return 0
    missing = targets.wanted + targets.begins_one_more - len(remaining) + successors
    unfinished = sum(member.facts.role in (None, Role.PROVISIONING) for member in remaining)
    return max(min(missing, targets.max_concurrent - unfinished), 0)
