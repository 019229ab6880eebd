"""From facts and memory to one decision: how many, who is where, and the steps of this pass. No reads, no writes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from headroom.api.v1alpha1.common import GROUP, Mode
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.model.replica import Role
from headroom.model.snapshot import SnapshotFacts
from headroom.model.text import parse_count
from headroom.policy import Outcome
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.admission import Admission, decide_admission, decide_wal_cap
from headroom.policy.replicaset.autoscaling import Goal, Past, Sizes, decide_by_hand, decide_by_signals
from headroom.policy.replicaset.copies import Copies
from headroom.policy.replicaset.copy_plan import plan_copies
from headroom.policy.replicaset.drain import DrainLimits
from headroom.policy.replicaset.facts import SetFacts
from headroom.policy.replicaset.libraries import describe_notes
from headroom.policy.replicaset.load import count_connections, find_serving, observe_load
from headroom.policy.replicaset.members import EvaluatedMember, Member, StageContext
from headroom.policy.replicaset.memory import SetMemory, assemble
from headroom.policy.replicaset.method import choose_method, find_history
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.replay_lag import is_within
from headroom.policy.replicaset.snapshot_need import SnapshotNeed, build_scene, decide_need, may_come
from headroom.policy.replicaset.snapshot_report import Freshness, describe_freshness
from headroom.policy.replicaset.snapshots import SnapshotPlan, count_returning, decide_snapshots
from headroom.policy.replicaset.stages import decide_stage, is_over_cap
from headroom.policy.replicaset.staleness import find_stale_reads
from headroom.policy.replicaset.stream_loss import find_streaming
from headroom.policy.replicaset.targets import Targets
from headroom.policy.target_conflict import TargetId, find_autoscaler
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class SetDecision:
    """All that a pass concluded. Everything a user sees comes from here.

    `refusal` is why no member can be begun, `is_waiting`: a failed attempt has to be waited out first. `outage` is set
    once it has lasted long enough to report. `unsettled` names members that another process left and that this new one
    has not measured yet, `is_settling`: it cannot evaluate the set yet. `conflict`: the installation does not permit
    its pods, or an autoscaler scales a set that scales itself. `over_cap` names members whose slots keep more WAL than
    they may, also those that are going. `copies`: what new members are made from, and why some wait.

    `usable_snapshots` are those that can still follow the primary, the newest first; `freshness` is what a person is
    told of them, `may_get_snapshot`: one can be taken of the members that there are. `stale_reads`: who may answer with
    old data while the primary answers. `library_notes`: what of the primary's libraries is not compared, or is wrong on
    the primary itself.
    """

    goal: Goal
    members: tuple[EvaluatedMember, ...]
    plan: Plan
    freshness: Freshness
    snapshots: SnapshotPlan = field(default_factory=SnapshotPlan)
    usable_snapshots: tuple[SnapshotFacts, ...] = ()
    may_get_snapshot: bool = False
    refusal: Finding | None = None
    is_waiting: bool = False
    outage: Finding | None = None
    unsettled: frozenset[str] = frozenset()
    is_settling: bool = False
    conflict: Finding | None = None
    over_cap: frozenset[str] = frozenset()
    copies: Copies = field(default_factory=Copies)
    stale_reads: Finding | None = None
    library_notes: str = ""

    def find(self, name: str) -> EvaluatedMember:
        """The member of this name."""
        return next(member for member in self.members if member.name == name)


def decide(spec: ReplicaSetSpec, facts: SetFacts, memory: SetMemory, now: Moment) -> Outcome[SetDecision, SetMemory]:
    """Record the facts, evaluate the members, set the goal, plan the pass."""
    memory = memory.observe(facts, spec.readiness, now)
    assembled = assemble(facts, memory, now.monotonic, connections=_count_configured(spec, facts))
    found = tuple(_choose(member, spec, facts, memory) for member in assembled)
    context = _build_context(spec, facts, found, memory, now)
    members = tuple(EvaluatedMember(member, decide_stage(member, context)) for member in found)
    memory = observe_load(spec, members, memory, now.monotonic).follow_start(spec)
    copies = plan_copies(spec, facts, memory.copying, members, choose_method(spec, facts, memory))
    members = copies.settle(members)
    goal = decide_goal(spec, members, memory, now.monotonic)
    refusal = _find_refusal(spec, facts, goal.desired + spec.standbys) or copies.begin.wait
    is_waiting = _is_waiting(memory, now.monotonic)
    is_young = memory.is_young(now.monotonic)
    unsettled = frozenset(member.name for member in found if is_young and _is_unmeasured(member, memory))
    outage = _find_lasting_outage(facts, memory, now.monotonic)
    targets = replace(
        _set_targets(spec, facts, goal, refusal, copies, is_waiting=is_waiting),
        authority_made_after=now.wall - timeouts.AUTHORITY_AGE_LIMIT,
        outage_seconds=_count_outage(memory, now.monotonic) if outage is not None else None,
    )
    scene = build_scene(spec, facts, members, memory, wal_cap=context.wal_cap, now=now)
    need = decide_need(scene, targets) if scene is not None else SnapshotNeed()
    targets = replace(targets, keeps_one_more=need.keeps_one_more, begins_one_more=need.begins_one_more)
    plan = decide_plan(members, targets, now.wall)
    snapshots = decide_snapshots(scene, need, plan, targets) if scene is not None else SnapshotPlan()
    plan = replace(plan, reserve=max(plan.reserve - count_returning(snapshots), 0))
    decision = SetDecision(
        goal=goal,
        members=members,
        plan=plan,
        snapshots=snapshots,
        freshness=describe_freshness(spec, facts, scene, need),
        usable_snapshots=scene.state.usable if scene is not None else (),
        may_get_snapshot=scene is not None and may_come(scene, need, targets),
        refusal=refusal,
        is_waiting=is_waiting,
        outage=outage,
        unsettled=unsettled,
        is_settling=is_young and (facts.primary is None or bool(unsettled)),
        conflict=_find_conflict(spec, facts),
        over_cap=frozenset(member.name for member in found if is_over_cap(member, context)),
        copies=copies,
        stale_reads=find_stale_reads(members, spec.readiness, plan.lag_panic, plan.panicked),
        library_notes=describe_notes(facts.libraries),
    )
    memory = replace(memory, growth=memory.growth.record_asked(goal.relieved, goal.desired, now.monotonic))
    memory = replace(memory, slots_touched_at=now.monotonic if snapshots.touch else memory.slots_touched_at)
    return Outcome(decision, memory.recommend(goal.wanted, goal.desired, now.monotonic))


def _choose(member: Member, spec: ReplicaSetSpec, facts: SetFacts, memory: SetMemory) -> Member:
    """Choose what it is made from, if it is to get its claim now."""
    if member.claim is not None or member.slot is None:
        return member
    return replace(member, choice=choose_method(spec, facts, memory, member.slot))


def _build_context(
    spec: ReplicaSetSpec, facts: SetFacts, members: Sequence[Member], memory: SetMemory, now: Moment
) -> StageContext:
    primary = facts.primary
    server = primary.view.server if primary is not None else None
    return StageContext(
        now=now.wall,
        has_primary=primary is not None,
        readiness=spec.readiness,
        stall_timeout=spec.provisioning.stall_timeout,
        drain_timeout=spec.drain.timeout,
        streaming=find_streaming(members),
        flush_lsn=primary.position.lsn if primary is not None else None,
        position=primary.position if primary is not None else None,
        history=find_history(facts, memory),
        # No driver creates a volume from one that is being deleted, and it stays while a claim waits for it.
        snapshots=None if facts.snapshots is None else frozenset(e.name for e in facts.snapshots if not e.is_deleting),
        wal_cap=decide_wal_cap(server, spec.provisioning.max_slot_wal) if server is not None else None,
    )


def _set_targets(
    spec: ReplicaSetSpec, facts: SetFacts, goal: Goal, refusal: Finding | None, copies: Copies, *, is_waiting: bool
) -> Targets:
    obstacle = refusal or copies.refusal
    can_begin = facts.template is not None and not is_waiting and copies.refusal is None
    return Targets(
        desired=goal.desired,
        standbys=spec.standbys,
        max_concurrent=spec.provisioning.max_concurrent,
        bounds=spec.readiness,
        drain=DrainLimits(spec.drain.timeout, spec.routing.eject_grace),
        why=goal.reason if goal.reason is Reason.UTILIZATION_BELOW_TARGET else Reason.REPLICAS_SET,
        is_acting=spec.mode is Mode.ACTIVE,
        no_activation=_find_obstacle(spec, facts),
        may_reserve=refusal is None and can_begin,
        obstacle=obstacle.message if obstacle is not None else "",
        may_replace=(refusal is None or refusal.reason is Reason.SLOTS_EXHAUSTED) and can_begin,
        has_primary=facts.primary is not None,
        template=facts.template,
        copies=copies,
    )


def _find_obstacle(spec: ReplicaSetSpec, facts: SetFacts) -> str:
    """Why no standby may be put into the Service now; empty if one may."""
    if spec.mode is not Mode.ACTIVE:
        return f"spec.mode is {spec.mode}"
    return "another object has the name of the read Service" if facts.is_service_refused else ""


def _count_outage(memory: SetMemory, now: float) -> float:
    return now - memory.outage_since if memory.outage_since is not None else 0.0


def decide_goal(spec: ReplicaSetSpec, members: Sequence[EvaluatedMember], memory: SetMemory, now: float) -> Goal:
    """The count by hand, or by the signals of `autoscaling`; `memory` knows what was wanted, `now` is monotonic."""
    scaling = spec.autoscaling
    if scaling is None:
        return decide_by_hand(spec.replicas, memory.desired if memory.start_replicas is not None else None)
    serving = find_serving(members)
    start = min(max(spec.replicas, scaling.min_replicas), scaling.max_replicas)
    sizes = Sizes(
        desired=memory.desired if memory.desired is not None else start,
        serving=len(serving),
        ready_standbys=sum(
            member.facts.role is Role.STANDBY
            and not member.facts.is_source
            and is_within(member.facts.lag, spec.readiness)
            for member in members
        ),
    )
    past = Past(memory.recommendations, memory.growth, memory.reads)
    return decide_by_signals(scaling, sizes, [count_connections(member) for member in serving], past, now)


def _count_configured(spec: ReplicaSetSpec, facts: SetFacts) -> int:
    """Connections of a replica by its configuration: the spec's or the primary's, whichever are more; 0 if unknown."""
    server = facts.primary.view.server if facts.primary is not None else None
    known = server.settings.get("max_connections", "") if server is not None else ""
    texts = (known, spec.postgresql.parameters.get("max_connections", ""))
    return max((count for count in map(parse_count, texts) if count is not None), default=0)


def _find_refusal(spec: ReplicaSetSpec, facts: SetFacts, wanted: int) -> Finding | None:
    """Why no member can be added, None when one can; `wanted` is how many there are to be."""
    if facts.prohibition is not None:
        return facts.prohibition
    if facts.primary is None:
        return facts.outage
    view = facts.primary.view
    if view.server is None:
        return Finding(Reason.GUARD_NOT_READY, "the DatabaseGuard has not read the server's facts yet")
    has_login = view.replication is not None and facts.primary.has_slot_link
    slots = [member.slot for member in facts.members if member.slot is not None]
    return decide_admission(
        Admission(
            server=view.server,
            has_replication_login=has_login,
            max_slot_wal=spec.provisioning.max_slot_wal,
            wanted=wanted,
            senders_held=sum(slot.is_active for slot in slots),
            slots_held=len(slots),
        )
    )


def _is_waiting(memory: SetMemory, now: float) -> bool:
    """Whether a failed attempt still has to be waited out."""
    failed_at = memory.attempts.failed_at
    if failed_at is None:
        return False
    return timedelta(seconds=now - failed_at) < timeouts.retry_after(memory.attempts.count)


def _find_lasting_outage(facts: SetFacts, memory: SetMemory, now: float) -> Finding | None:
    """A process that never saw the primary waits longer: its own first moments look like an outage."""
    if memory.outage_since is None:
        return None
    if not memory.has_seen_primary:
        return None if memory.is_young(now) else facts.outage
    return facts.outage if now - memory.outage_since >= timeouts.OUTAGE_NOTICE.total_seconds() else None


def _is_unmeasured(member: Member, memory: SetMemory) -> bool:
    """Its server can be asked, and was not asked often enough yet. All others are evaluated by their pods."""
    is_asked = member.is_alive and member.pod is not None and member.pod.is_ready
    return is_asked and member.name in memory.inherited


def _find_conflict(spec: ReplicaSetSpec, facts: SetFacts) -> Finding | None:
    """A rule of the installation. Or another autoscaler: without `autoscaling` it may set the count; with it that count
    is ignored.
    """
    if facts.prohibition is not None:
        return facts.prohibition
    claim = find_autoscaler(TargetId(GROUP, "ReplicaSet", facts.name), facts.autoscalers)
    if spec.autoscaling is None or claim is None:
        return None
    message = (
        f"{claim.owner} scales dbrs/{facts.name}, which follows spec.autoscaling: what it writes to spec.replicas is "
        "not followed; delete it, or remove spec.autoscaling"
    )
    return Finding(Reason.TARGET_CONFLICT, message)
