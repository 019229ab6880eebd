"""The conditions of a set and of each member. A tired person must understand them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from headroom.api.v1alpha1.common import Mode
from headroom.errors import InvalidSpec
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Condition, Finding, Truth
from headroom.model.numbers import count_of
from headroom.model.replica import Role, Stage
from headroom.policy.not_yet import describe_not_yet
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.members import STAGE_ORDER, EvaluatedMember
from headroom.policy.replicaset.replay_lag import describe_pause
from headroom.policy.replicaset.retirement import find_staying
from headroom.policy.replicaset.staleness import describe_unstreamed, find_others
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.certificates import describe_encryption
from headroom.reconcilers.replicaset.memory import SetContext

ONLY_A_PERSON_CAN_HELP = frozenset(
    {
        Reason.VOLUME_NOT_BOUND,
        Reason.POD_UNSCHEDULABLE,
        Reason.IMAGE_NOT_PULLED,
        Reason.MAJOR_VERSION_MISMATCH,
        Reason.IMAGE_INCOMPLETE,
        Reason.NO_COPY_SOURCE,
        Reason.POD_FAILING,
        Reason.COLLATION_MISMATCH,
        Reason.EXTENSION_MISSING,
        Reason.LIBRARY_NOT_PRELOADED,
    }
)
REFUSED = frozenset(
    {
        Reason.FORBIDDEN,
        Reason.QUOTA_EXCEEDED,
        Reason.INVALID_SPEC,
        Reason.NAME_CONFLICT,
        Reason.MISSING_RIGHT,
    }
)
"""Reasons of a write that the API server or the primary refuses: tried again alone it is refused again."""
CALM = frozenset(
    {
        Reason.IN_PROGRESS,
        Reason.CERTIFICATE_NOT_PUBLISHED,
        Reason.SEEDING,
        Reason.AS_EXPECTED,
        Reason.SLOT_PENDING,
        Reason.REPLAYING,
    }
)
"""Reasons of a member in provisioning that only needs time."""
SET_CONDITIONS = (
    ConditionType.READY,
    ConditionType.WARM_POOL_READY,
    ConditionType.STALLED,
    ConditionType.SCALING_LIMITED,
    ConditionType.SIGNAL_AVAILABLE,
    ConditionType.READS_MAY_BE_STALE,
    ConditionType.SNAPSHOT_FRESH,
)
NONE_SERVES = "no replica serves, as wanted"
STALE_REASONS = (Reason.LAG_PANIC, Reason.REPLAY_LAG_ABOVE_LIMIT, Reason.REPLAY_LAG_UNKNOWN)
"""Why reads may be stale while the primary answers and every serving member has a stream."""


def describe_conditions(context: SetContext) -> tuple[Condition, ...]:
    """All conditions of the set; while a new process cannot evaluate one, status keeps the old verdict."""
    conditions = (
        _ready(context),
        _warm_pool(context),
        _stalled(context),
        _scaling_limited(context),
        _signal_available(context),
        _stale_reads(context),
        _snapshots(context),
    )
    if not context.decision.is_settling:
        return conditions
    return tuple(_keep_verdict(context, condition) for condition in conditions)


def describe_invalid(error: InvalidSpec) -> tuple[Condition, ...]:
    """What is known of a set whose spec cannot be acted on."""
    kinds = {ConditionType.READY: Truth.FALSE, ConditionType.STALLED: Truth.TRUE}
    return tuple(Condition(kind, truth, error.reason, str(error)) for kind, truth in kinds.items())


def describe_deletion(message: str) -> tuple[Condition, ...]:
    """All of a set's conditions while it is being deleted: nothing is measured any more."""
    others = (Condition(kind, Truth.UNKNOWN, Reason.DELETING, "it is being deleted") for kind in SET_CONDITIONS[1:])
    return (Condition(ConditionType.READY, Truth.FALSE, Reason.DELETING, message), *others)


def _keep_verdict(context: SetContext, condition: Condition) -> Condition:
    """The verdict of the earlier process, unless it was about another spec, or something other than lag decides."""
    old = context.condition(condition.type)
    is_verdict = old.get("reason") in set(Reason) - {Reason.NOT_YET_OBSERVED}
    is_of_this_spec = old.get("observedGeneration") == context.body["metadata"]["generation"]
    is_certain = not context.facts.has_guard or bool(context.findings)
    if not is_verdict or not is_of_this_spec or is_certain:
        return condition
    return Condition(condition.type, Truth(old["status"]), Reason(old["reason"]), old.get("message", ""))


def _ready(context: SetContext) -> Condition:
    kind, spec, plan, goal = ConditionType.READY, context.spec, context.decision.plan, context.decision.goal
    obstacle = _find_obstacle(context)
    if obstacle is not None:
        return Condition(kind, Truth.FALSE, obstacle.reason, obstacle.message)
    least = min(goal.desired, spec.readiness.min_serving)
    unfit = next((member for member in context.decision.members if _is_unfit(member)), None)
    if plan.good < least and unfit is not None:
        return Condition(kind, Truth.FALSE, unfit.verdict.reason, f"{unfit.name}: {unfit.verdict.message}")
    if plan.good < least:
        wanted = count_of(least, "replica serves", "replicas serve")
        unstreamed = describe_unstreamed(context.decision.members, spec.readiness) or _describe_unlisted(context)
        cause = f"; {unstreamed}" if unstreamed else _describe_most_advanced(context)
        return Condition(kind, Truth.FALSE, Reason.SERVING_BELOW_MINIMUM, f"{plan.good} of at least {wanted}{cause}")
    known = context.condition(kind)
    was_below = least > 0 and known.get("reason") == Reason.SERVING_BELOW_MINIMUM
    if was_below and any(map(_may_lag, context.decision.members)):
        return Condition(kind, Truth.FALSE, Reason.SERVING_BELOW_MINIMUM, str(known["message"]))
    asides = (
        _describe_unused_count(context),
        _describe_drifted(context),
        context.decision.library_notes,
        describe_not_yet(spec),
    )
    ignored = "".join(f"; {aside}" for aside in asides if aside)
    if spec.mode is not Mode.ACTIVE:
        reason = Reason.PAUSED if spec.mode is Mode.PAUSED else Reason.DRY_RUN
        return Condition(kind, Truth.TRUE, reason, f"spec.mode is {spec.mode}{ignored}")
    reason = Reason.IN_PROGRESS if plan.good < goal.desired else Reason.AS_EXPECTED
    tls = describe_encryption(context.decision.members, spec, context.facts.given_authority) if plan.good else ""
    return Condition(kind, Truth.TRUE, reason, f"{_describe_serving(context)}{tls}{ignored}")


def _is_unfit(member: EvaluatedMember) -> bool:
    """It serves with other libraries than the primary's, as no other can."""
    return member.facts.role is Role.SERVING and member.facts.has_other_libraries


def _find_obstacle(context: SetContext) -> Finding | None:
    """Why the operator cannot do what the spec asks."""
    guard, outage = context.spec.database_ref.name, context.decision.outage
    if not context.facts.has_guard:
        message = f"there is no DatabaseGuard {guard} in this namespace: create it or correct spec.databaseRef"
        return Finding(Reason.GUARD_NOT_FOUND, message)
    if outage is not None:
        return Finding(outage.reason, f"{outage.message}; see dbg/{guard}; serving replicas continue to serve")
    return context.findings[0] if context.findings else context.decision.conflict


def _describe_serving(context: SetContext) -> str:
    good, wanted = context.decision.plan.good, context.decision.goal.desired
    if good < wanted:
        return f"{good} of {count_of(wanted, 'replica serves', 'replicas serve')}{_describe_most_advanced(context)}"
    if good:
        return count_of(good, "replica serves", "replicas serve")
    left = sum(member.facts.role is Role.SERVING and member.facts.is_alive for member in context.decision.members)
    return f"{count_of(left, 'replica serves', 'replicas serve')}, none is wanted" if left else NONE_SERVES


def _describe_unused_count(context: SetContext) -> str:
    """For a spec.replicas that has no effect, as after `kubectl scale`."""
    spec = context.spec
    if spec.autoscaling is None or spec.replicas == context.decision.goal.desired:
        return ""
    return f"spec.replicas {spec.replicas} is not used while autoscaling decides"


def _describe_drifted(context: SetContext) -> str:
    """Serving members of an older template are swapped for standbys; without standbys they stay as they are."""
    template = context.facts.template
    if template is None or context.spec.standbys:
        return ""
    pods = [member.facts.pod for member in context.decision.members if member.facts.role is Role.SERVING]
    old = sum(pod is not None and pod.template != template for pod in pods)
    if not old:
        return ""
    run_on = count_of(old, "replica runs", "replicas run")
    return f"{run_on} with the template from before the last change: set spec.standbys to 1 to swap them without a gap"


def _warm_pool(context: SetContext) -> Condition:
    kind, wanted, outage = ConditionType.WARM_POOL_READY, context.spec.standbys, context.decision.outage
    goal, plan = context.decision.goal, context.decision.plan
    # A standby that is about to serve is not spare any more.
    warm = max(count_warm(context.decision.members) - max(goal.desired - plan.good, 0), 0)
    if not wanted:
        return Condition(kind, Truth.TRUE, Reason.NO_STANDBYS_WANTED, "spec.standbys is 0: a scale-up waits for a copy")
    if warm >= wanted and outage is not None:
        were = count_of(warm, "standby was warm", "standbys were warm")
        message = f"{were} when it could last be measured: {outage.message}"
        return Condition(kind, Truth.UNKNOWN, outage.reason, message)
    if warm >= wanted:
        note = f"; {context.handles.warmup_note}" if context.handles.warmup_note else ""
        message = f"{count_of(warm, 'standby is warm', 'standbys are warm')}{note}"
        return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, message)
    reason = _find_trouble(context) or Reason.WARM_POOL_REFILLING
    all_warm = count_of(wanted, "standby is warm", "standbys are warm")
    return Condition(kind, Truth.FALSE, reason, f"{warm} of {all_warm}{_describe_most_advanced(context)}")


def count_warm(members: Iterable[EvaluatedMember]) -> int:
    """Members that could serve at once."""
    return sum(member.facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY for member in members)


def _stalled(context: SetContext) -> Condition:
    kind, decision, attempts = ConditionType.STALLED, context.decision, context.memory.attempts
    refusal = decision.refusal
    if refusal is not None and refusal.reason is Reason.WOULD_BECOME_SYNCHRONOUS:
        return Condition(kind, Truth.TRUE, refusal.reason, refusal.message)
    if attempts.count >= timeouts.ATTEMPTS_BEFORE_STALLED and attempts.failure is not None:
        again = timeouts.retry_after(attempts.count)
        message = (
            f"{attempts.count} attempts to create a replica failed, the last one: {attempts.failure.message}; what "
            f"they held was released, and another attempt follows every {again.total_seconds():.0f} s"
        )
        return Condition(kind, Truth.TRUE, Reason.SEED_ATTEMPTS_EXHAUSTED, message)
    obstacle = next(_find_obstacles(context), None)
    if obstacle is not None:
        return Condition(kind, Truth.TRUE, obstacle.reason, obstacle.message)
    if decision.outage is not None:
        message = f"not known now: see dbg/{context.spec.database_ref.name}"
        return Condition(kind, Truth.UNKNOWN, decision.outage.reason, message)
    held = next((member.facts for member in decision.members if _is_held(context, member)), None)
    if held is not None:
        seconds = max(held.broken_seconds, held.refused_seconds)
        message = (
            f"{held.name} has not streamed for {seconds:.0f} s and is kept: nothing shows that a new "
            "copy could; read its log, check pg_hba.conf, the replication login and the network"
        )
        return Condition(kind, Truth.TRUE, Reason.NOT_STREAMING, f"{message}{describe_pause(held.probe)}")
    return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "nothing waits for a person")


def _find_obstacles(context: SetContext) -> Iterator[Finding]:
    """What no further attempt overcomes, the most telling first."""
    decision = context.decision
    yield from (finding for finding in context.findings if finding.reason in REFUSED)
    if decision.refusal is not None and context.facts.primary is not None and not _may_get_snapshot(context):
        yield decision.refusal
    wait = decision.copies.refusal
    if wait is not None and wait.reason in ONLY_A_PERSON_CAN_HELP and _is_short(context):
        yield wait
    verdicts = (member.verdict for member in decision.members)
    yield from (Finding(one.reason, one.message) for one in verdicts if one.reason in ONLY_A_PERSON_CAN_HELP)


def _is_short(context: SetContext) -> bool:
    """Whether a member is missing that nothing was begun for."""
    staying = find_staying(context.decision.members)
    return len(staying) < context.decision.goal.desired + context.spec.standbys


def _may_get_snapshot(context: SetContext) -> bool:
    """Whether the snapshot that a new member waits for can still come."""
    refusal = context.decision.refusal
    is_about_snapshots = refusal is not None and refusal.reason is Reason.NO_SNAPSHOT_FITS
    return is_about_snapshots and context.decision.may_get_snapshot


def _is_held(context: SetContext, member: EvaluatedMember) -> bool:
    """Its stream has been broken for a long time, and it is not replaced. A new process has not watched it for long: a
    member that was held stays held while it has no stream.
    """
    limit, refusal = timeouts.STREAM_LOSS_LIMIT.total_seconds(), member.facts.ineligible
    was_held = context.condition(ConditionType.STALLED).get("reason") == Reason.NOT_STREAMING
    is_still_broken = refusal is not None and refusal.reason is Reason.NOT_STREAMING
    is_still_held = was_held and is_still_broken and member.facts.refused_seconds >= limit
    is_long = member.facts.broken_seconds >= limit or is_still_held
    is_leaving = member.verdict.is_due_for_replacement or member.verdict.is_failed or member.facts.is_going
    return is_long and not is_leaving


def _scaling_limited(context: SetContext) -> Condition:
    kind, goal, outage = ConditionType.SCALING_LIMITED, context.decision.goal, context.decision.outage
    good = context.decision.plan.good
    if outage is not None and goal.desired != good:
        message = f"{good} serve, {goal.desired} wanted: held until dbg/{context.spec.database_ref.name} is Ready"
        return Condition(kind, Truth.TRUE, outage.reason, message)
    wait = context.decision.plan.scale_in_wait
    if wait:
        message = f"{good} serve, {goal.desired} wanted: {wait}"
        return Condition(kind, Truth.TRUE, Reason.TIMELINE_DIVERGED, message)
    if goal.no_gain:
        return Condition(kind, Truth.TRUE, Reason.NO_GAIN_FROM_MORE_REPLICAS, goal.no_gain)
    if goal.reason is Reason.NO_GAIN_FROM_MORE_REPLICAS:
        return Condition(kind, Truth.TRUE, goal.reason, goal.message)
    if goal.limit is None or goal.wanted <= goal.desired:
        return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "no more are wanted than are allowed")
    message = f"{goal.rule} asks for {goal.wanted}, {goal.desired} are allowed"
    return Condition(kind, Truth.TRUE, goal.limit, message)


def _signal_available(context: SetContext) -> Condition:
    missing, kind = context.decision.goal.missing, ConditionType.SIGNAL_AVAILABLE
    if missing:
        return Condition(kind, Truth.FALSE, Reason.STALE_SIGNAL, "; ".join(signal.message for signal in missing))
    if context.spec.autoscaling is None:
        return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, "spec.replicas decides, no signal is needed")
    for note in context.decision.goal.notes:
        return Condition(kind, Truth.TRUE, note.reason, note.message)
    return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, "every signal can be read")


def _stale_reads(context: SetContext) -> Condition:
    kind, outage, stale = ConditionType.READS_MAY_BE_STALE, context.decision.outage, context.decision.stale_reads
    if outage is not None and any(member.facts.role is Role.SERVING for member in context.decision.members):
        message = f"no replay lag can be measured: {outage.message}"
        return Condition(kind, Truth.TRUE, Reason.READS_UNBOUNDED, message)
    unstreamed = describe_unstreamed(context.decision.members, context.spec.readiness)
    if unstreamed:
        others = find_others(context.decision.members, unstreamed, stale)
        return Condition(kind, Truth.TRUE, Reason.READS_UNBOUNDED, f"{unstreamed}{others}")
    if stale is not None:
        return Condition(kind, Truth.TRUE, stale.reason, stale.message)
    known = context.condition(kind)
    if known.get("status") == Truth.TRUE and _is_unrefuted(context, known):
        return Condition(kind, Truth.TRUE, Reason(known["reason"]), str(known["message"]))
    return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "a replica that lags beyond its bounds leaves the Service")


def _is_unrefuted(context: SetContext, known: Mapping[str, Any]) -> bool:
    """Whether reads may still be stale as reported before: while the primary is silent, nothing speaks against it."""
    members = context.decision.members
    if context.facts.primary is None:
        is_reason = known.get("reason") in (*STALE_REASONS, Reason.READS_UNBOUNDED)
        return is_reason and any(member.facts.role is Role.SERVING for member in members)
    return known.get("reason") in STALE_REASONS and any(map(_may_lag, members))


def _may_lag(member: EvaluatedMember) -> bool:
    """Whether a serving member was seen beyond its bound, or may be: no reading has shown that it is not."""
    facts, lag = member.facts, member.facts.measured
    is_open = lag is not None and not lag.is_bounded
    # A pass that learns nothing of one without a stream does not end what is reported of it.
    is_unasked = facts.ineligible is None and facts.refusal is not None
    return facts.role is Role.SERVING and (facts.stale is not None or is_open or is_unasked)


def _describe_unlisted(context: SetContext) -> str:
    """Names a member that the Service should list by now; empty if there is none."""
    late = next((context.member(name) for name in context.decision.plan.late), None)
    if late is None:
        return ""
    if late.is_listed:
        return f"{late.name} does not answer reads"
    return f"Service {context.service_name} does not list {late.name}: check its pod and kube-controller-manager"


def _snapshots(context: SetContext) -> Condition:
    known = context.decision.freshness
    return Condition(ConditionType.SNAPSHOT_FRESH, known.status, known.finding.reason, known.finding.message)


def _find_trouble(context: SetContext) -> Reason | None:
    """The problem of a member in provisioning that needs more than time."""
    verdicts = (member.verdict for member in _find_unfinished(context.decision.members))
    reason = next((verdict.reason for verdict in verdicts if verdict.reason not in CALM), None)
    finding = context.decision.refusal or context.decision.copies.refusal or context.memory.attempts.failure
    return reason or (finding.reason if finding is not None else None)


def _describe_most_advanced(context: SetContext) -> str:
    """The member that is nearest to serving, else why none is created."""
    unfinished = _find_unfinished(context.decision.members)
    if unfinished:
        nearest = max(unfinished, key=lambda member: STAGE_ORDER[member.verdict.stage])
        return f"; {nearest.name}: {nearest.verdict.message}{_describe_wait(context)}"
    finding = context.decision.refusal or context.decision.copies.refusal or context.memory.attempts.failure
    return f"; {finding.message}" if finding is not None else ""


def _describe_wait(context: SetContext) -> str:
    """Why nothing is begun for a member that is missing beside the unfinished ones."""
    wait = context.decision.copies.refusal
    return f"; {wait.message}" if wait is not None and _is_short(context) else ""


def _find_unfinished(members: Iterable[EvaluatedMember]) -> Sequence[EvaluatedMember]:
    return [member for member in members if STAGE_ORDER[member.verdict.stage] < STAGE_ORDER[Stage.STANDBY]]
