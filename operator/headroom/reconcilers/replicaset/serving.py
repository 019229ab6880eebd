"""Serving: one guarded label patch after a fresh look, then wait until the Service lists it and a read answers."""

from collections import deque

from headroom.errors import Conflict, Unavailable
from headroom.model.replica import MemberFacts, PodFacts, Role
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.readiness import is_within
from headroom.ports.kube import ENDPOINT_SLICE, POD, ObjectRef
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.children import parse_listed, parse_pod
from headroom.reconcilers.replicaset.gather import SERVICE_LABEL
from headroom.reconcilers.replicaset.prober import Prober
from headroom.reconcilers.replicaset.roles import ensure_role
from headroom.reconcilers.replicaset.run import Run, carry_out

CONDITION = ConditionType.SERVING
LOOK_AGAIN_SECONDS = 0.02
FRESH_SECONDS = 0.25
"""A pass that moves nobody first comes here within milliseconds of its probes: candidates are within the bounds now."""


async def ensure_serving(run: Run) -> None:
    """Put as many candidates into the Service as are needed, all at once; where one fails the next is taken."""
    plan = run.decision.plan
    if run.facts.memory.is_service_refused:
        # A Service that is not ours never lists our members; Ready says whose name it is.
        return
    queue = deque(plan.activate)
    await carry_out([run.attempt(_fill_place(run, queue)) for _ in range(min(plan.needed, len(queue)))])


async def _fill_place(run: Run, queue: deque[str]) -> None:
    while queue:
        member = run.facts.member(queue.popleft())
        try:
            if await _activate(run, member):
                return
        except Conflict:
            continue


async def _activate(run: Run, member: MemberFacts) -> bool:
    assert member.pod is not None
    if not await _is_fit_now(run, member.pod):
        return False
    pod = await ensure_role(run.writer, run.facts.owner.namespace, member.pod, Role.SERVING)
    run.has_moved = True
    if await _is_in_service(run, pod):
        _note_activation(run, pod)
        return True
    await _put_back(run, pod)
    return False


async def _is_fit_now(run: Run, pod: PodFacts) -> bool:
    """A reading of this moment stands; an older one is taken again, and so is the position of the primary."""
    primary = run.facts.primary
    if primary is None:
        return False
    if run.facts.services.clock.monotonic() - run.facts.gathered_at <= FRESH_SECONDS:
        return True
    try:
        position = await primary.link.position()
    except Unavailable:
        return False
    lag = await _prober(run).probe_now(pod, (*primary.marks, position))
    return is_within(lag, run.facts.spec.readiness)


async def _is_in_service(run: Run, pod: PodFacts) -> bool:
    """The Service lists it, and then a read on it answers."""
    clock = run.facts.services.clock
    deadline = clock.monotonic() + timeouts.IN_SERVICE_LIMIT.total_seconds()
    while clock.monotonic() < deadline:
        labels = {SERVICE_LABEL: run.facts.service_name}
        slices = await run.reader.list(ENDPOINT_SLICE, run.facts.owner.namespace, labels=labels)
        if pod.uid in parse_listed(slices) and await _prober(run).probe_now(pod, ()) is not None:
            return True
        await clock.sleep(LOOK_AGAIN_SECONDS)
    return False


async def _put_back(run: Run, pod: PodFacts) -> None:
    message = f"{pod.name} did not appear in Service {run.facts.service_name} in time; it goes back to the pool"
    run.announce(Reason.NOT_IN_SERVICE_IN_TIME, message, "Warning")
    run.telemetry.record(metrics.ACTIVATIONS, 1, **run.labels, outcome="not_in_service")
    live = await run.reader.get(ObjectRef(POD, run.facts.owner.namespace, pod.name))
    if live is not None and live["metadata"]["uid"] == pod.uid:
        await ensure_role(run.writer, run.facts.owner.namespace, parse_pod(live), Role.STANDBY)


def _note_activation(run: Run, pod: PodFacts) -> None:
    seconds = run.facts.services.clock.monotonic() - run.decided_at
    run.facts.memory.warm.add(seconds)
    run.telemetry.record(metrics.LEAD_TIME, seconds, **run.labels, method="warm")
    run.telemetry.record(metrics.ACTIVATIONS, 1, **run.labels, outcome="served")
    run.announce(Reason.ACTIVATED, f"{pod.name} serves reads {seconds:.2f} s after it was decided")


def _prober(run: Run) -> Prober:
    facts = run.facts
    return Prober(facts.services.postgres, facts.services.clock, facts.memory, facts.spec.readiness)
