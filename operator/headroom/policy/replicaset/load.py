"""The load on the replicas that serve: who they are, their sessions, and what a row of passes shows of them."""

from collections.abc import Sequence
from dataclasses import replace

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.replica import Role
from headroom.policy.replicaset.growth import Connections, Growth
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.read_rate import Counter


def find_serving(members: Sequence[EvaluatedMember]) -> list[Member]:
    """Members of the Service whose pods may run."""
    return [member.facts for member in members if member.facts.role is Role.SERVING and member.facts.is_alive]


def observe_load(spec: ReplicaSetSpec, members: Sequence[EvaluatedMember], memory: SetMemory, now: float) -> SetMemory:
    """Take up the sessions and reads of one pass; `now` is monotonic. Without a target the reads are measured only."""
    signals = spec.autoscaling.signals if spec.autoscaling is not None else ()
    targets = [signal.connections.utilization_percent / 100 for signal in signals if signal.connections is not None]
    serving = find_serving(members)
    names, readings = [member.name for member in serving], [count_connections(member) for member in serving]
    confirmed = sum(member.activating_seconds is None for member in serving)
    desired = memory.desired if memory.desired is not None else confirmed
    growth = Growth()
    if targets:
        growth = memory.growth.observe(readings, names, min(targets), now, count=confirmed, desired=desired)
    reads = memory.reads.observe(readings, names, min(targets, default=None), now, desired=desired)
    return replace(memory, growth=growth, reads=reads)


def count_connections(member: Member) -> Connections | None:
    """Its sessions; one that has no connection left has as many as it allows, and may be working with all of them."""
    probe = member.probe
    if member.is_full:
        return Connections(member.allowed, member.allowed, member.allowed, member.name, is_estimate=True)
    if probe is None or member.unanswered:
        return None
    takes_new = member.pod is not None and member.pod.is_ready
    counter = Counter(probe.transactions, probe.answered_at) if probe.transactions is not None else None
    return Connections(
        probe.sessions, probe.active_sessions, probe.max_connections, member.name, takes_new, counter=counter
    )
