"""Out of the Service: the label goes first, then sessions leave, and those that stay too long are ended."""

import logging

from headroom.errors import HeadroomError, Unavailable
from headroom.model.numbers import count_of
from headroom.model.replica import Role
from headroom.policy.replicaset.ejection import Ejection
from headroom.policy.replicaset.scale_in import SessionsEnd
from headroom.ports.kube import POD, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import carry_out
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.children import parse_pod
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.roles import ensure_draining

logger = logging.getLogger(__name__)


async def eject(context: SetContext) -> None:
    """Take members out that must not serve; all at the same time, since each second counts against the bound."""
    await carry_out([context.attempt(_eject(context, ejection)) for ejection in context.decision.plan.eject])


async def drain(context: SetContext) -> None:
    """Take out the one that is not needed any more."""
    for ejection in context.decision.plan.drain:
        await context.attempt(_drain(context, ejection))


async def end_sessions(context: SetContext) -> None:
    """End the sessions of draining members that are due."""
    await carry_out([context.attempt(_end_sessions(context, end)) for end in context.decision.plan.end_sessions])


async def _eject(context: SetContext, ejection: Ejection) -> None:
    await _take_out(context, ejection)
    context.services.telemetry.record(metrics.EJECTIONS, 1, **context.labels, reason=str(ejection.reason))
    context.emit(ejection.reason, f"{ejection.name} left the read Service: {ejection.message}", "Warning")


async def _drain(context: SetContext, ejection: Ejection) -> None:
    await _take_out(context, ejection)
    context.emit(Reason.DRAINING, f"{ejection.name} takes no new connections: {ejection.message}")


async def _take_out(context: SetContext, ejection: Ejection) -> None:
    pod = context.member(ejection.name).pod
    assert pod is not None
    await ensure_draining(context.services.kube, context.namespace, pod, ejection.reason, context.now.wall)
    context.has_moved = True


async def _end_sessions(context: SetContext, end: SessionsEnd) -> None:
    """A member that does not answer, or whose answer nobody foresaw, must not stop the others."""
    handles = context.handles.members.get(end.name)
    if handles is None or handles.link is None or not await _is_draining(context, end.name, handles.pod_uid):
        return
    try:
        ended = await handles.link.end_sessions(only_idle=end.only_idle)
    except Unavailable as error:
        logger.info("%s: its sessions could not be ended now: %s", end.name, error)
        return
    except HeadroomError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        if text != handles.unended:
            logger.exception("%s: its sessions could not be ended", end.name)
        handles.unended = text
        return
    handles.unended = ""
    if ended:
        context.services.telemetry.record(metrics.SESSIONS_ENDED, ended, **context.labels)
        counted = count_of(ended, "session was ended", "sessions were ended")
        context.emit(Reason.SESSIONS_TERMINATED, f"{counted} on {end.name}")


async def _is_draining(context: SetContext, name: str, uid: str) -> bool:
    """Read live: whoever serves again, by this pass or before the watch shows it, keeps its sessions."""
    live = await context.services.kube.get(ObjectRef(POD, context.namespace, name))
    return live is not None and live["metadata"]["uid"] == uid and parse_pod(live).role is Role.DRAINING
