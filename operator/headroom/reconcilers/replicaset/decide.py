"""From facts to one decision: how many, who is where, and the steps of this pass. No reads, no writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from headroom.api.v1alpha1.common import Mode
from headroom.model.replica import Role
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.admission import Admission, Refusal, decide_admission, decide_wal_cap
from headroom.policy.replicaset.autoscaling import (
    Connections,
    Goal,
    Recommendation,
    Sizes,
    decide_by_hand,
    decide_by_signals,
)
from headroom.policy.replicaset.drain import DrainLimits
from headroom.policy.replicaset.ejection import EvaluatedMember
from headroom.policy.replicaset.plan import Plan, Targets
from headroom.policy.replicaset.planning import decide_plan
from headroom.policy.replicaset.readiness import is_within
from headroom.policy.replicaset.stages import decide_stage
from headroom.policy.replicaset.stream_loss import find_streaming
from headroom.policy.replicaset.verdict import StageContext
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.facts import SetFacts


@dataclass(frozen=True, slots=True)
class Decision:
    """All that a pass concluded; everything a user sees comes from here."""

    goal: Goal
    members: tuple[EvaluatedMember, ...]
    plan: Plan
    refusal: Refusal | None
    is_waiting: bool

    def evaluated(self, name: str) -> EvaluatedMember:
        """The member of this name."""
        return next(member for member in self.members if member.name == name)


def decide(facts: SetFacts) -> Decision:
    """Judge the members, set the goal, plan the pass."""
    context = _build_context(facts)
    members = tuple(EvaluatedMember(member, decide_stage(member, context)) for member in facts.members)
    goal = decide_goal(facts, members)
    refusal = _refuse(facts)
    is_waiting = _is_waiting(facts)
    can_begin = facts.pod_template is not None and not is_waiting
    targets = Targets(
        desired=goal.desired,
        standbys=facts.spec.standbys,
        max_concurrent=facts.spec.provisioning.max_concurrent,
        bounds=facts.spec.readiness,
        drain=DrainLimits(facts.spec.drain.timeout, facts.spec.routing.eject_grace),
        why=goal.reason if goal.reason is Reason.UTILIZATION_BELOW_TARGET else Reason.REPLICAS_SET,
        is_acting=facts.spec.mode is Mode.ACTIVE,
        may_provision=refusal is None and can_begin,
        may_replace=(refusal is None or refusal.reason is Reason.SLOTS_EXHAUSTED) and can_begin,
        has_primary=facts.primary is not None,
        template=facts.pod_template.template if facts.pod_template else None,
    )
    return Decision(goal, members, decide_plan(members, targets, facts.now), refusal, is_waiting)


def _build_context(facts: SetFacts) -> StageContext:
    primary = facts.primary
    server = primary.view.server if primary is not None else None
    return StageContext(
        now=facts.now,
        has_primary=primary is not None,
        readiness=facts.spec.readiness,
        stall_timeout=facts.spec.provisioning.stall_timeout,
        streaming=find_streaming(facts.members),
        flush_lsn=primary.marks[-1].lsn if primary is not None and primary.marks else None,
        wal_cap=decide_wal_cap(server, facts.spec.provisioning.max_slot_wal) if server is not None else None,
    )


def decide_goal(facts: SetFacts, members: Sequence[EvaluatedMember]) -> Goal:
    """By hand, or by the signals of `autoscaling`; what was recommended is remembered by the caller."""
    scaling = facts.spec.autoscaling
    if scaling is None:
        return decide_by_hand(facts.spec.replicas)
    serving = [member for member in members if member.facts.role is Role.SERVING and member.facts.is_alive]
    start = min(max(facts.spec.replicas, scaling.min_replicas), scaling.max_replicas)
    sizes = Sizes(
        desired=facts.memory.desired if facts.memory.desired is not None else start,
        serving=len(serving),
        ready_standbys=sum(_is_ready_standby(member, facts) for member in members),
    )
    history: Sequence[Recommendation] = tuple(facts.memory.history)
    return decide_by_signals(scaling, sizes, [_read(member) for member in serving], history, facts.gathered_at)


def _read(member: EvaluatedMember) -> Connections | None:
    probe = member.facts.probe
    if probe is None or member.facts.unanswered:
        return None
    return Connections(probe.sessions, probe.active_sessions, probe.max_connections)


def _is_ready_standby(member: EvaluatedMember, facts: SetFacts) -> bool:
    return member.facts.role is Role.STANDBY and is_within(member.facts.lag, facts.spec.readiness)


def _refuse(facts: SetFacts) -> Refusal | None:
    """Why no member can be added, None when one can."""
    if facts.primary is None:
        outage = facts.outage
        return Refusal(outage.reason, outage.message) if outage else None
    view = facts.primary.view
    if view.server is None:
        return Refusal(Reason.GUARD_NOT_READY, "the DatabaseGuard has not read the server's facts yet")
    has_login = view.replication is not None and facts.primary.slots is not None
    return decide_admission(Admission(view.server, has_login, facts.spec.provisioning.max_slot_wal))


def _is_waiting(facts: SetFacts) -> bool:
    """A failed attempt is still to be waited out."""
    memory = facts.memory
    if memory.failed_at is None:
        return False
    return timedelta(seconds=facts.gathered_at - memory.failed_at) < timeouts.retry_after(memory.attempts)
