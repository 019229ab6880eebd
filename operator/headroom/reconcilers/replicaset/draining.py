"""Draining: the label comes off first, then sessions leave by themselves, and what outstays its time is ended."""

import logging

from headroom.errors import Unavailable
from headroom.model.numbers import count_of
from headroom.model.replica import MemberFacts, Role
from headroom.policy.replicaset.drain import DrainLimits, DrainStep, decide_drain
from headroom.policy.replicaset.ejection import Ejection
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.roles import ensure_draining
from headroom.reconcilers.replicaset.run import Run, carry_out

logger = logging.getLogger(__name__)


async def ensure_ejected(run: Run) -> None:
    """Take members out that must not serve; all at once, since each second counts against the bound."""
    steps = [run.attempt(_take_out(run, ejection, is_ejection=True)) for ejection in run.decision.plan.eject]
    await carry_out(steps)


async def ensure_scaled_in(run: Run) -> None:
    """Take out the one that is not needed any more."""
    for ejection in run.decision.plan.drain:
        await run.attempt(_take_out(run, ejection, is_ejection=False))


async def ensure_sessions_ended(run: Run) -> None:
    """End the sessions of draining members as far as their time has come."""
    limits = DrainLimits(run.facts.spec.drain.timeout, run.facts.spec.routing.eject_grace)
    steps = [
        run.attempt(_end_sessions(run, member, decide_drain(member, limits, run.facts.now)))
        for member in run.facts.members
        if member.role is Role.DRAINING and not member.is_going
    ]
    await carry_out(steps)


async def _take_out(run: Run, ejection: Ejection, *, is_ejection: bool) -> None:
    pod = run.facts.member(ejection.name).pod
    assert pod is not None
    await ensure_draining(run.writer, run.facts.owner.namespace, pod, ejection.reason, run.facts.now)
    run.has_moved = True
    if is_ejection:
        run.telemetry.record(metrics.EJECTIONS, 1, **run.labels, reason=str(ejection.reason))
        run.announce(ejection.reason, f"{pod.name} left the read Service: {ejection.message}", "Warning")
    else:
        run.announce(Reason.DRAINING, f"{pod.name} takes no new connections: {ejection.message}")


async def _end_sessions(run: Run, member: MemberFacts, step: DrainStep) -> None:
    """What does not answer has no session that could be ended, and is nobody else's trouble."""
    known = run.facts.memory.members.get(member.name)
    if step not in (DrainStep.END_IDLE, DrainStep.END_ALL) or known is None or known.link is None or member.unanswered:
        return
    try:
        ended = await known.link.end_sessions(only_idle=step is DrainStep.END_IDLE)
    except Unavailable as error:
        logger.info("%s: its sessions could not be ended now: %s", member.name, error)
        return
    if ended:
        run.telemetry.record(metrics.SESSIONS_ENDED, ended, **run.labels)
        said = count_of(ended, "session was ended", "sessions were ended")
        run.announce(Reason.SESSIONS_TERMINATED, f"{said} on {member.name}")
