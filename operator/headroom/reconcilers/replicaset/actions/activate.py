"""Into the Service: one guarded label patch after a fresh reading; a later pass sees whether it took effect."""

from collections import deque
from dataclasses import replace

from headroom.errors import Conflict, Unavailable
from headroom.model.replica import PodFacts, Role
from headroom.policy.replicaset.activation import Confirmation
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import is_within, measure_replay_lag
from headroom.policy.replicaset.timeouts import IN_SERVICE_LIMIT
from headroom.ports.kube import ENDPOINT_SLICE, POD, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import carry_out
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.children import parse_listed, parse_pod
from headroom.reconcilers.replicaset.gather import SERVICE_LABEL
from headroom.reconcilers.replicaset.memory import SetContext
from headroom.reconcilers.replicaset.prober import Prober
from headroom.reconcilers.replicaset.roles import ensure_role

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


async def confirm(context: SetContext) -> None:
    """Report what this pass found about activations of earlier ones: who serves now, and who takes too long."""
    for confirmation in context.memory.activations.confirmed:
        _record_activation(context, confirmation)
    for name in context.decision.plan.late:
        activation = context.memory.activations.pending.get(name)
        if activation is not None and not activation.is_reported:
            _report_late(context, name)


async def put_back(context: SetContext) -> None:
    """Return late members to the pool, so that others take their places."""
    for name in context.decision.plan.put_back:
        await context.attempt(_put_back(context, context.member(name)))


async def _activate(context: SetContext, pod: PodFacts) -> bool:
    if not await _is_fit_now(context, pod):
        return False
    # Before the patch: its answer may be lost although it took effect.
    context.memory = replace(context.memory, activations=context.memory.activations.begin(pod, context.now.monotonic))
    await ensure_role(context.services.kube, context.namespace, pod, Role.SERVING)
    context.has_moved = True
    return True


async def _is_fit_now(context: SetContext, pod: PodFacts) -> bool:
    """Whether a reading of this moment is within the bounds; an older one is repeated, and so is the position of the
    primary. While the primary does not answer, the plan takes only who was within them; it must still be a replica.
    """
    primary, clock = context.facts.primary, context.services.clock
    if clock.monotonic() - context.now.monotonic <= FRESH_SECONDS:
        return True
    if primary is None:
        answer = await _prober(context).probe_now(pod)
        return answer is not None and answer.is_in_recovery
    try:
        position = await context.services.servers.read_position(context.guard_key)
    except Unavailable:
        return False
    probe, known = await _prober(context).probe_now(pod, position), context.memory.members.get(pod.name)
    if probe is None or known is None:
        return False
    marks = (*primary.marks, position)
    lag = measure_replay_lag(marks, probe, clock.monotonic(), previous=known.readings.chain)
    return is_within(lag, context.spec.readiness)


async def _put_back(context: SetContext, member: Member) -> None:
    kube, name = context.services.kube, member.name
    # Live: if only the watch is late, the member serves, and the next pass confirms it.
    slices = await kube.list(ENDPOINT_SLICE, context.namespace, labels={SERVICE_LABEL: context.service_name})
    live = await kube.get(ObjectRef(POD, context.namespace, name))
    if live is None or member.pod is None or live["metadata"]["uid"] != member.pod.uid:
        return
    pod = parse_pod(live)
    if pod.uid in parse_listed(slices) or pod.role is not Role.SERVING:
        return
    await ensure_role(kube, context.namespace, pod, Role.STANDBY)
    context.has_moved = True
    context.memory = replace(context.memory, activations=context.memory.activations.fail(pod, context.now.monotonic))
    context.services.telemetry.record(metrics.ACTIVATIONS, 1, **context.labels, outcome="not_in_service")


def _report_late(context: SetContext, name: str) -> None:
    context.memory = replace(context.memory, activations=context.memory.activations.report(name))
    is_listed = context.member(name).is_listed
    what = "does not answer reads" if is_listed else f"did not appear in Service {context.service_name}"
    is_replaced = name in context.decision.plan.put_back
    then = "it goes back to the pool" if is_replaced else "it keeps its label, since no other standby can serve"
    context.emit(
        Reason.NOT_IN_SERVICE_IN_TIME,
        f"{name} {what} within {IN_SERVICE_LIMIT.total_seconds():.0f} s; {then}",
        "Warning",
    )


def _record_activation(context: SetContext, confirmation: Confirmation) -> None:
    name, seconds = confirmation.name, confirmation.seconds
    context.memory = context.memory.record_activation(seconds)
    context.services.telemetry.record(metrics.LEAD_TIME, seconds, **context.labels, method="warm")
    context.services.telemetry.record(metrics.ACTIVATIONS, 1, **context.labels, outcome="served")
    context.emit(Reason.ACTIVATED, f"{name} serves reads {seconds:.2f} s after it was decided")


def _prober(context: SetContext) -> Prober:
    return Prober(context.services.postgres, context.services.clock, context.handles)
