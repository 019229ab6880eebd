"""Who leaves the Service because fewer are wanted, and what becomes of a member once it is drained."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from headroom.model.replica import Role
from headroom.policy.replicaset.drain import DrainStep, decide_drain
from headroom.policy.replicaset.ejection import Ejection
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.policy.replicaset.replay_lag import is_bounded, is_within
from headroom.policy.replicaset.targets import Targets, is_drifted, is_warm


@dataclass(frozen=True, slots=True)
class SessionsEnd:
    """A draining member whose sessions are to end now: the idle ones, or all."""

    name: str
    only_idle: bool


def choose_drained(
    staying: Sequence[EvaluatedMember], good: Sequence[EvaluatedMember], targets: Targets
) -> tuple[Ejection, ...]:
    """One at a time, not while another drains, not while the primary does not answer.

    Also not before the lag of one that stays is known: a new process could not tell who is up to date.
    """
    if len(good) <= targets.desired or not targets.has_primary:
        return ()
    if any(member.facts.role is Role.DRAINING for member in staying):
        return ()
    victim = max(good, key=lambda member: _drain_rank(member, targets))
    if targets.desired and not any(is_bounded(member.facts.lag) for member in good if member is not victim):
        return ()
    return (Ejection(victim.name, targets.why, f"{len(good)} serve, {targets.desired} wanted"),)


def _drain_rank(member: EvaluatedMember, targets: Targets) -> tuple[bool, bool, int, int]:
    probe = member.facts.probe
    is_unfit = not is_within(member.facts.lag, targets.bounds)
    return is_drifted(member, targets), is_unfit, -(probe.active_sessions if probe else 0), member.facts.id.ordinal


def settle_drained(
    staying: Sequence[EvaluatedMember], called: Collection[str], targets: Targets, now: datetime
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of drained members that go back to the pool, since standbys are missing; and of those that go for good."""
    drained = [
        member
        for member in staying
        if member.facts.role is Role.DRAINING
        and member.name not in called
        and not member.verdict.is_failed
        and decide_drain(member.facts, targets.drain, now) is DrainStep.DONE
    ]
    warm = sum(is_warm(member) or member.name in called for member in staying)
    room = max(targets.desired + targets.standbys - warm, 0)
    names = tuple(member.name for member in drained)
    return names[:room], names[room:]


def end_sessions(
    members: Sequence[EvaluatedMember], recalled: Collection[str], targets: Targets, now: datetime
) -> tuple[SessionsEnd, ...]:
    """Those of draining members whose time has come; one that does not answer has none that could be ended.

    `recalled` serve again, or may in this pass: their sessions stay, however long they have drained.
    """
    steps = [
        (member.name, decide_drain(member.facts, targets.drain, now))
        for member in members
        if member.facts.role is Role.DRAINING and not (member.facts.is_going or member.facts.unanswered)
    ]
    ending = (DrainStep.END_IDLE, DrainStep.END_ALL)
    return tuple(
        SessionsEnd(name, step is DrainStep.END_IDLE) for name, step in steps if step in ending and name not in recalled
    )
