"""The verdicts about a set, in words a tired person understands."""

from headroom.api.v1alpha1.common import Mode
from headroom.model.conditions import Condition, Truth
from headroom.model.numbers import count_of
from headroom.model.replica import Role, Stage
from headroom.policy.not_yet import explain_not_yet
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.ejection import EvaluatedMember
from headroom.policy.replicaset.readiness import describe_pause
from headroom.reasons import ConditionType, Reason
from headroom.reconcilers.replicaset.member_conditions import ORDER
from headroom.reconcilers.replicaset.run import Run

ONLY_A_PERSON_CAN_HELP = frozenset(
    {
        Reason.VOLUME_NOT_BOUND,
        Reason.POD_UNSCHEDULABLE,
        Reason.IMAGE_NOT_PULLED,
        Reason.MAJOR_VERSION_MISMATCH,
        Reason.POD_FAILING,
    }
)
SET_CONDITIONS = (
    ConditionType.READY,
    ConditionType.WARM_POOL_READY,
    ConditionType.STALLED,
    ConditionType.SCALING_LIMITED,
    ConditionType.SIGNAL_AVAILABLE,
    ConditionType.READS_MAY_BE_STALE,
    ConditionType.SNAPSHOT_FRESH,
)


def unknown_conditions() -> tuple[Condition, ...]:
    """All of a set's conditions before the first look."""
    message = "the set has not been looked at yet"
    return tuple(Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, message) for kind in SET_CONDITIONS)


def deleting_conditions(message: str) -> tuple[Condition, ...]:
    """All of a set's conditions while it is being deleted: nothing is watched any more."""
    others = (Condition(kind, Truth.UNKNOWN, Reason.DELETING, "it is being deleted") for kind in SET_CONDITIONS[1:])
    return (Condition(ConditionType.READY, Truth.FALSE, Reason.DELETING, message), *others)


def set_conditions(run: Run) -> tuple[Condition, ...]:
    """All conditions of the set."""
    return (
        _ready(run),
        _warm_pool(run),
        _stalled(run),
        _scaling_limited(run),
        _signal_available(run),
        _stale_reads(run),
        _snapshots(run),
    )


def _ready(run: Run) -> Condition:
    facts, decision = run.facts, run.decision
    kind = ConditionType.READY
    if facts.is_guard_missing:
        name = facts.spec.database_ref.name
        message = f"there is no DatabaseGuard {name} in this namespace: create it or correct spec.databaseRef"
        return Condition(kind, Truth.FALSE, Reason.GUARD_NOT_FOUND, message)
    outage = facts.lasting_outage
    if outage is not None:
        said = f"{outage.message}; see dbg/{facts.spec.database_ref.name}; what serves goes on serving"
        return Condition(kind, Truth.FALSE, outage.reason, said)
    if run.problems:
        return Condition(kind, Truth.FALSE, run.problems[0].reason, run.problems[0].message)
    least = min(decision.goal.desired, facts.spec.readiness.min_serving)
    if decision.plan.good < least:
        wanted = count_of(least, "replica serves", "replicas serve")
        message = f"{decision.plan.good} of at least {wanted}{_say_unstreamed(run) or _most_advanced(run)}"
        return Condition(kind, Truth.FALSE, Reason.SERVING_BELOW_MINIMUM, message)
    asides = (_unused_count(run), _describe_drifted(run), explain_not_yet(facts.spec))
    ignored = "".join(f"; {words}" for words in asides if words)
    if facts.spec.mode is not Mode.ACTIVE:
        reason = Reason.PAUSED if facts.spec.mode is Mode.PAUSED else Reason.DRY_RUN
        return Condition(kind, Truth.TRUE, reason, f"spec.mode is {facts.spec.mode}{ignored}")
    tls = "" if facts.spec.tls is not None or not decision.plan.good else "; without TLS, see spec.tls"
    return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, f"{_describe_serving(run)}{tls}{ignored}")


def _describe_serving(run: Run) -> str:
    good, wanted = run.decision.plan.good, run.decision.goal.desired
    if good < wanted:
        return f"{good} of {count_of(wanted, 'replica serves', 'replicas serve')}{_most_advanced(run)}"
    return count_of(good, "replica serves", "replicas serve") if good else "no replica serves, as wanted"


def _say_unstreamed(run: Run) -> str:
    unstreamed = _describe_unstreamed(run)
    return f"; {unstreamed}" if unstreamed else ""


def _unused_count(run: Run) -> str:
    """Words for a spec.replicas that reads like an order and is none, as after `kubectl scale`."""
    spec = run.facts.spec
    if spec.autoscaling is None or spec.replicas == run.decision.goal.desired:
        return ""
    return f"spec.replicas {spec.replicas} is not used while autoscaling decides"


def _describe_drifted(run: Run) -> str:
    """Serving members of an older template are swapped for standbys; without any they stay as they are."""
    pod_template, spec = run.facts.pod_template, run.facts.spec
    if pod_template is None or spec.standbys:
        return ""
    pods = [member.facts.pod for member in run.decision.members if member.facts.role is Role.SERVING]
    old = sum(pod is not None and pod.template != pod_template.template for pod in pods)
    if not old:
        return ""
    run_on = count_of(old, "replica runs", "replicas run")
    return f"{run_on} on as made before the last change: set spec.standbys to 1 to have them swapped without a gap"


def _warm_pool(run: Run) -> Condition:
    kind, wanted = ConditionType.WARM_POOL_READY, run.facts.spec.standbys
    # Those about to serve are spare no more.
    warm = max(count_warm(run) - max(run.decision.goal.desired - run.decision.plan.good, 0), 0)
    if not wanted:
        return Condition(kind, Truth.TRUE, Reason.NO_STANDBYS_WANTED, "spec.standbys is 0: a scale-up waits for a copy")
    outage = run.facts.lasting_outage
    if warm >= wanted and outage is not None:
        were = count_of(warm, "standby was warm", "standbys were warm")
        message = f"{were} when it could last be measured: {outage.message}"
        return Condition(kind, Truth.UNKNOWN, outage.reason, message)
    if warm >= wanted:
        return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, count_of(warm, "standby is warm", "standbys are warm"))
    reason = _trouble(run) or Reason.WARM_POOL_REFILLING
    pool = count_of(wanted, "standby is warm", "standbys are warm")
    return Condition(kind, Truth.FALSE, reason, f"{warm} of {pool}{_most_advanced(run)}")


def _stalled(run: Run) -> Condition:
    kind, memory = ConditionType.STALLED, run.facts.memory
    if memory.attempts >= timeouts.ATTEMPTS_BEFORE_STALLED and memory.failure is not None:
        again = timeouts.retry_after(memory.attempts)
        message = (
            f"{memory.attempts} attempts to make a replica failed, the last one: {memory.failure[1]}; what they held "
            f"was given back, and it is tried again every {again.total_seconds():.0f} s"
        )
        return Condition(kind, Truth.TRUE, Reason.SEED_ATTEMPTS_EXHAUSTED, message)
    refusal = run.decision.refusal
    if refusal is not None and run.facts.primary is not None:
        return Condition(kind, Truth.TRUE, refusal.reason, refusal.message)
    trouble = next((m.verdict for m in run.decision.members if m.verdict.reason in ONLY_A_PERSON_CAN_HELP), None)
    if trouble is not None:
        return Condition(kind, Truth.TRUE, trouble.reason, trouble.message)
    outage = run.facts.lasting_outage
    if outage is not None:
        return Condition(
            kind, Truth.UNKNOWN, outage.reason, f"not known now: see dbg/{run.facts.spec.database_ref.name}"
        )
    held = next((member for member in run.decision.members if _is_held(member)), None)
    if held is not None:
        message = (
            f"{held.name} has not streamed for {held.facts.broken_seconds:.0f} s and is kept: nothing shows that a new "
            "copy could; read its log, check pg_hba.conf, the replication login and the network"
        )
        return Condition(kind, Truth.TRUE, Reason.NOT_STREAMING, f"{message}{describe_pause(held.facts.probe)}")
    return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "nothing waits for a person")


def _is_held(member: EvaluatedMember) -> bool:
    """Its stream has been broken for long, and it is not replaced."""
    is_long = member.facts.broken_seconds >= timeouts.CUT_OFF_LIMIT.total_seconds()
    return is_long and not (member.verdict.is_cut_off or member.verdict.is_failed or member.facts.is_going)


def _scaling_limited(run: Run) -> Condition:
    goal, kind, outage = run.decision.goal, ConditionType.SCALING_LIMITED, run.facts.lasting_outage
    if outage is not None and goal.desired != run.decision.plan.good:
        message = f"{run.decision.plan.good} serve, {goal.desired} wanted: held until dbg/"
        message += f"{run.facts.spec.database_ref.name} is Ready"
        return Condition(kind, Truth.TRUE, outage.reason, message)
    if goal.limit is None or goal.wanted <= goal.desired:
        return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "no more are wanted than are allowed")
    message = f"{goal.rule} asks for {goal.wanted}, {goal.desired} are allowed"
    return Condition(kind, Truth.TRUE, goal.limit, message)


def _signal_available(run: Run) -> Condition:
    missing, kind = run.decision.goal.missing, ConditionType.SIGNAL_AVAILABLE
    if missing:
        return Condition(kind, Truth.FALSE, Reason.STALE_SIGNAL, "; ".join(signal.message for signal in missing))
    if run.facts.spec.autoscaling is None:
        return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, "spec.replicas decides, no signal is needed")
    return Condition(kind, Truth.TRUE, Reason.AS_EXPECTED, "every signal can be read")


def _stale_reads(run: Run) -> Condition:
    kind = ConditionType.READS_MAY_BE_STALE
    serving_count = sum(member.facts.role is Role.SERVING for member in run.decision.members)
    outage = run.facts.lasting_outage
    if outage is not None and serving_count:
        message = f"no replay lag can be measured: {outage.message}"
        return Condition(kind, Truth.TRUE, Reason.READS_UNBOUNDED, message)
    unstreamed = _describe_unstreamed(run)
    if unstreamed:
        return Condition(kind, Truth.TRUE, Reason.READS_UNBOUNDED, unstreamed)
    if run.decision.plan.panic:
        return Condition(kind, Truth.TRUE, Reason.LAG_PANIC, run.decision.plan.panic)
    return Condition(kind, Truth.FALSE, Reason.AS_EXPECTED, "what lags beyond its bounds is taken out of the Service")


def _describe_unstreamed(run: Run) -> str:
    """A member that stays in the Service though its stream is broken, for want of another; empty: none."""
    bound = run.facts.spec.readiness.eject_replay_lag.total_seconds()
    for member in run.decision.members:
        lag = member.facts.lag
        if member.facts.role is not Role.SERVING or lag is None or lag.refusal is None:
            continue
        if member.facts.refused_seconds >= bound:
            return f"{member.name} serves on without a stream, since no other could: {lag.message}"
    return ""


def _snapshots(run: Run) -> Condition:
    kind = ConditionType.SNAPSHOT_FRESH
    message = "this version makes replicas by base backup only"
    if run.facts.spec.provisioning.snapshots is None:
        return Condition(kind, Truth.FALSE, Reason.SNAPSHOTS_NOT_CONFIGURED, message)
    return Condition(kind, Truth.UNKNOWN, Reason.NOT_YET_OBSERVED, message)


def count_warm(run: Run) -> int:
    """Members that could serve at once."""
    return sum(
        member.facts.role is Role.STANDBY and member.verdict.stage is Stage.STANDBY for member in run.decision.members
    )


def _trouble(run: Run) -> Reason | None:
    """What a member in the making meets, where it is more than time."""
    calm = {Reason.IN_PROGRESS, Reason.SEEDING, Reason.AS_EXPECTED, Reason.SLOT_PENDING, Reason.REPLAYING}
    making = [m.verdict for m in run.decision.members if m.verdict.stage in ORDER[: ORDER.index(Stage.STANDBY)]]
    reason = next((verdict.reason for verdict in making if verdict.reason not in calm), None)
    if reason is not None:
        return reason
    if run.decision.refusal is not None:
        return run.decision.refusal.reason
    return run.facts.memory.failure[0] if run.facts.memory.failure else None


def _most_advanced(run: Run) -> str:
    """The words for the member that is nearest to serving."""
    making = [m for m in run.decision.members if m.verdict.stage in ORDER[: ORDER.index(Stage.STANDBY)]]
    if making:
        nearest = max(making, key=lambda member: ORDER.index(member.verdict.stage))
        return f"; {nearest.name}: {nearest.verdict.message}"
    if run.decision.refusal is not None:
        return f"; {run.decision.refusal.message}"
    return f"; {run.facts.memory.failure[1]}" if run.facts.memory.failure else ""
