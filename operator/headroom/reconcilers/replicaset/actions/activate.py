"""Into the Service: one guarded label patch after a fresh reading; a later pass sees whether it took effect."""

from collections import deque
from dataclasses import replace

from headroom.errors import Conflict, Unavailable
from headroom.model.replica import PodFacts, Role
from headroom.policy.replicaset.activation import Confirmation, has_answered
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


async def activate(context: SetContext, *, kept: int) -> None:
    """Put as many candidates into the Service as are needed, all at the same time; if one fails, the next is tried.

    `kept` is how many places were to be given up and are not: nobody else is needed for them.
    """
    plan = context.decision.plan
    if context.facts.is_service_refused:
        # A Service that is not ours never lists our members; Ready says whose name it is.
        return
    queue = deque(plan.activate)
    places = max(min(plan.needed, len(queue)) - kept, 0)
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
    """Report what this pass found about activations of earlier ones: who serves now."""
    for confirmation in context.memory.activations.confirmed:
        _record_activation(context, confirmation)


async def put_back(context: SetContext) -> int:
    """Return late members to the pool, so that others take their places; the number of those that keep them after all.

    Only the watch may be late, so each is looked up first. Without an answer of the API server nobody gives up a place.
    """
    plan, given_up = context.decision.plan, set[str]()
    for name in plan.late:
        if name in plan.put_back:
            await context.attempt(_put_back(context, context.member(name), given_up))
        else:
            await context.attempt(_report_kept(context, context.member(name)))
    return len(plan.put_back) - len(given_up)


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


async def _put_back(context: SetContext, member: Member, given_up: set[str]) -> None:
    is_listed = await _is_listed(context, member)
    live = await context.services.kube.get(ObjectRef(POD, context.namespace, member.name))
    if live is None or member.pod is None or live["metadata"]["uid"] != member.pod.uid:
        given_up.add(member.name)
        return
    pod = parse_pod(live)
    if pod.role is not Role.SERVING:
        given_up.add(member.name)
        return
    if _serves(context, member, is_listed=is_listed):
        return
    await ensure_role(context.services.kube, context.namespace, pod, Role.STANDBY)
    given_up.add(member.name)
    context.has_moved = True
    _emit_late(context, member.name, "it goes back to the pool", is_listed=is_listed)
    context.memory = replace(context.memory, activations=context.memory.activations.fail(pod, context.now.monotonic))
    context.services.telemetry.record(metrics.ACTIVATIONS, 1, **context.labels, outcome="not_in_service")


async def _report_kept(context: SetContext, member: Member) -> None:
    """Once for each activation."""
    activation = context.memory.activations.pending.get(member.name)
    if activation is None or activation.is_reported:
        return
    is_listed = await _is_listed(context, member)
    if _serves(context, member, is_listed=is_listed):
        return
    context.memory = replace(context.memory, activations=context.memory.activations.report(member.name))
    _emit_late(context, member.name, "it keeps its label, since no other standby can serve", is_listed=is_listed)


async def _is_listed(context: SetContext, member: Member) -> bool:
    """What the API server says, and not the watch."""
    labels = {SERVICE_LABEL: context.service_name}
    slices = await context.services.kube.list(ENDPOINT_SLICE, context.namespace, labels=labels)
    return member.pod is not None and member.pod.uid in parse_listed(slices)


def _serves(context: SetContext, member: Member, *, is_listed: bool) -> bool:
    """Whether a late member is in the Service after all, or may be; the next pass confirms it."""
    if not is_listed or member.pod is None:
        return False
    if any(found.name == member.name and has_answered(found.reading) for found in context.facts.members):
        context.memory = replace(context.memory, activations=context.memory.activations.serve(member.pod))
        return True
    # Without a question that stayed unanswered our own loop was late: the next pass asks again.
    return member.unanswered == 0


def _emit_late(context: SetContext, name: str, then: str, *, is_listed: bool) -> None:
    what = "does not answer reads" if is_listed else f"did not appear in Service {context.service_name}"
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
    context.emit(Reason.ACTIVATED, f"{name} serves reads, confirmed {seconds:.2f} s after the decision")


def _prober(context: SetContext) -> Prober:
    return Prober(context.services.postgres, context.services.clock, context.handles)
