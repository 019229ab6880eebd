"""Into the Service: one guarded label patch after a fresh reading; done when the pod is listed and answers a read."""

from collections import deque

from headroom.errors import Conflict, Unavailable
from headroom.model.replica import PodFacts, Role
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.replay_lag import is_within, measure_replay_lag
from headroom.ports.kube import ENDPOINT_SLICE, POD, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import carry_out
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.children import parse_listed, parse_pod
from headroom.reconcilers.replicaset.gather import SERVICE_LABEL
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.prober import Prober
from headroom.reconcilers.replicaset.roles import ensure_role

RECHECK_SECONDS = 0.02
FRESH_SECONDS = 0.25
"""A pass that moves no other member first comes here within milliseconds of its probes: candidates are still within the
bounds."""


async def activate(context: SetContext) -> None:
    """Put as many candidates into the Service as are needed, all at the same time; if one fails, the next is tried."""
    plan = context.decision.plan
    if context.facts.is_service_refused:
        # A Service that is not ours never lists our members; Ready says whose name it is.
        return
    queue = deque(plan.activate)
    places = min(plan.needed, len(queue))
    await carry_out([context.attempt(_fill_place(context, queue)) for _ in range(places)])


async def _fill_place(context: SetContext, queue: deque[str]) -> None:
    while queue:
        pod = context.member(queue.popleft()).pod
        assert pod is not None
        try:
            if await _activate(context, pod):
                return
        except Conflict:
            continue


async def _activate(context: SetContext, pod: PodFacts) -> bool:
    if not await _is_fit_now(context, pod):
        return False
    serving = await ensure_role(context.services.kube, context.namespace, pod, Role.SERVING)
    context.has_moved = True
    if await _is_in_service(context, serving):
        _record_activation(context, serving)
        return True
    await _put_back(context, serving)
    return False


async def _is_fit_now(context: SetContext, pod: PodFacts) -> bool:
    """Whether a reading of this moment is within the bounds; an older one is repeated, and so is the position of the
    primary.
    """
    primary, clock = context.facts.primary, context.services.clock
    if primary is None:
        return False
    if clock.monotonic() - context.now.monotonic <= FRESH_SECONDS:
        return True
    try:
        position = await context.services.servers.read_position(context.guard_key)
    except Unavailable:
        return False
    probe, known = await _prober(context).probe_now(pod), context.memory.members.get(pod.name)
    if probe is None or known is None:
        return False
    marks = (*primary.marks, position)
    lag = measure_replay_lag(marks, probe, clock.monotonic(), previous=known.readings.chain)
    return is_within(lag, context.spec.readiness)


async def _is_in_service(context: SetContext, pod: PodFacts) -> bool:
    """The Service lists it, and then a read on it answers."""
    clock, cache = context.services.clock, context.services.cache
    labels = {SERVICE_LABEL: context.service_name}
    deadline = clock.monotonic() + timeouts.IN_SERVICE_LIMIT.total_seconds()
    while clock.monotonic() < deadline:
        listed = parse_listed(cache.list(ENDPOINT_SLICE, context.namespace, labels=labels))
        if pod.uid in listed and await _prober(context).probe_now(pod) is not None:
            return True
        await clock.sleep(RECHECK_SECONDS)
    return False


async def _put_back(context: SetContext, pod: PodFacts) -> None:
    message = f"{pod.name} did not appear in Service {context.service_name} in time; it goes back to the pool"
    context.emit(Reason.NOT_IN_SERVICE_IN_TIME, message, "Warning")
    context.services.telemetry.record(metrics.ACTIVATIONS, 1, **context.labels, outcome="not_in_service")
    # Read again: the pod may have changed since it got its label, and the patch tests its resourceVersion.
    live = await context.services.kube.get(ObjectRef(POD, context.namespace, pod.name))
    if live is not None and live["metadata"]["uid"] == pod.uid:
        await ensure_role(context.services.kube, context.namespace, parse_pod(live), Role.STANDBY)


def _record_activation(context: SetContext, pod: PodFacts) -> None:
    seconds = context.services.clock.monotonic() - context.now.monotonic
    context.memory = context.memory.record_activation(seconds)
    context.services.telemetry.record(metrics.LEAD_TIME, seconds, **context.labels, method="warm")
    context.services.telemetry.record(metrics.ACTIVATIONS, 1, **context.labels, outcome="served")
    context.emit(Reason.ACTIVATED, f"{pod.name} serves reads {seconds:.2f} s after it was decided")


def _prober(context: SetContext) -> Prober:
    return Prober(context.services.postgres, context.services.clock, context.handles)
