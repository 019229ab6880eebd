"""Who leaves the Service because fewer are wanted, and what becomes of a member once it is drained."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from headroom.model.replica import Role
from headroom.policy.replicaset.drain import DrainStep, decide_drain
from headroom.policy.replicaset.ejection import Ejection
from headroom.policy.replicaset.members import EvaluatedMember, may_lag_more
from headroom.policy.replicaset.replay_lag import describe_lag, is_bounded, is_within
from headroom.policy.replicaset.targets import Targets, is_drifted, is_warm
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class SessionsEnd:
    """A draining member whose sessions are to end now: the idle ones, or all."""

    name: str
    only_idle: bool


def choose_drained(
    staying: Sequence[EvaluatedMember], good: Sequence[EvaluatedMember], targets: Targets
) -> tuple[Ejection, ...]:
    """One at a time, not while another drains, not while the primary does not answer.

    Also not before the lag of one that stays is known: a new process could not tell who is up to date. If none is
    wanted, those that do not serve well have no better one to wait for.
    """
    if not targets.has_primary:
        return ()
    unfit = [] if targets.desired else [member for member in staying if member not in good and _serves(member)]
    idle = tuple(Ejection(member.name, targets.why, "no replica is wanted") for member in unfit)
    if len(good) <= targets.desired or any(member.facts.role is Role.DRAINING for member in staying):
        return idle
    victim = max(good, key=lambda member: _drain_rank(member, targets))
    if targets.desired and not any(is_bounded(member.facts.lag) for member in good if member is not victim):
        return ()
    return (*idle, Ejection(victim.name, targets.why, f"{len(good)} serve, {targets.desired} wanted"))


def _serves(member: EvaluatedMember) -> bool:
    facts = member.facts
    return facts.role is Role.SERVING and facts.is_alive and facts.activating_seconds is None


def choose_exchanged(good: Sequence[EvaluatedMember], targets: Targets) -> tuple[Ejection, ...]:
    """One that may lag by any time leaves as soon as another has joined for it, whoever else drains."""
    blind = [member for member in good if may_lag_more(member.facts)]
    has_other = any(is_bounded(member.facts.lag) for member in good)
    if not (targets.has_primary and blind and has_other) or len(good) <= targets.desired:
        return ()
    worst = max(blind, key=lambda member: member.facts.measured.seconds if member.facts.measured else 0.0)
    since = f"{worst.facts.judged_seconds:.0f} s"
    message = f"{describe_lag(worst.facts.lag)}; how much its lag is has not been known for {since}"
    return (Ejection(worst.name, Reason.REPLAY_LAG_UNKNOWN, message),)


def _drain_rank(member: EvaluatedMember, targets: Targets) -> tuple[bool, bool, int, int]:
    """One that is full may be working with all its sessions, and its lag is only not known."""
    facts, probe = member.facts, member.facts.probe
    is_unfit = not (is_within(facts.lag, targets.bounds) or facts.is_full)
    active = facts.allowed if facts.is_full else probe.active_sessions if probe is not None else 0
    return is_drifted(member, targets), is_unfit, -active, facts.id.ordinal


def settle_drained(
    staying: Sequence[EvaluatedMember], called: Collection[str], targets: Targets, now: datetime
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of drained members that go back to the pool, since standbys are missing or a snapshot is due; and of those
    that go for good.
    """
    drained = [
        member
        for member in staying
        if member.facts.role is Role.DRAINING
        and member.name not in called
        and not member.verdict.is_failed
        and decide_drain(member.facts, targets.drain, now) is DrainStep.DONE
    ]
    warm = sum(is_warm(member) or member.name in called for member in staying)
    room = max(targets.kept - warm, 0)
    names = tuple(member.name for member in drained)
    # A pod that is being deleted ends first, and its successor has to catch up.
    alive = {member.name for member in drained if member.facts.is_alive}
    return tuple(name for name in names[:room] if name in alive), names[room:]


def stop_unreachable(members: Sequence[EvaluatedMember], targets: Targets, now: datetime) -> tuple[str, ...]:
    """A drained member whose sessions nobody can end in another way; one in each pass."""
    names = [
        member.name for member in members if member.facts.role is Role.DRAINING and _must_stop(member, targets, now)
    ]
    return tuple(names[:1]) if targets.has_primary else ()


def _must_stop(member: EvaluatedMember, targets: Targets, now: datetime) -> bool:
    return decide_drain(member.facts, targets.drain, now) is DrainStep.STOP


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
