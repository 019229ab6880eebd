"""The metrics of ReplicaSets, and the numbers that every pass publishes."""

from headroom.model.replica import Role
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.policy.replicaset.snapshot_state import measure_behind
from headroom.ports.telemetry import Metric, MetricType
from headroom.reconcilers.replicaset.memory import SetContext

OBJECT = ("namespace", "name")
SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

MEMBERS = Metric("headroom_replicaset_members", MetricType.GAUGE, "Members of a set by role.", (*OBJECT, "role"))
DESIRED = Metric("headroom_replicaset_desired_replicas", MetricType.GAUGE, "Replicas that are to serve.", OBJECT)
REPLAY_LAG = Metric(
    "headroom_replicaset_replay_lag_seconds",
    MetricType.GAUGE,
    "Replay lag of a member, by the LSN round trip.",
    (*OBJECT, "member"),
)
REPLAY_BACKLOG = Metric(
    "headroom_replicaset_replay_backlog_bytes",
    MetricType.GAUGE,
    "WAL that a member still has to replay.",
    (*OBJECT, "member"),
)
SESSIONS = Metric("headroom_replicaset_sessions", MetricType.GAUGE, "Client sessions on a member.", (*OBJECT, "member"))
READS = Metric(
    "headroom_replicaset_reads_per_second",
    MetricType.GAUGE,
    "Transactions per second of all serving replicas together; absent while not known, as on PostgreSQL 14.",
    OBJECT,
)
LEAD_TIME = Metric(
    "headroom_replicaset_lead_seconds",
    MetricType.HISTOGRAM,
    "From decision to capacity: warm to the first read answered, base_backup and volume_snapshot to a standby.",
    (*OBJECT, "method"),
    SECONDS,
)
ACTIVATIONS = Metric(
    "headroom_replicaset_activations_total",
    MetricType.COUNTER,
    "Standbys that were put into the read Service, by outcome.",
    (*OBJECT, "outcome"),
)
EJECTIONS = Metric(
    "headroom_replicaset_ejections_total",
    MetricType.COUNTER,
    "Serving members taken out of the read Service against the wanted count, by reason.",
    (*OBJECT, "reason"),
)
COPIES = Metric(
    "headroom_replicaset_copies_total",
    MetricType.COUNTER,
    "Copies that were begun for new members, by the server they are taken from: a standby, or the primary.",
    (*OBJECT, "source"),
)
ATTEMPTS_FAILED = Metric(
    "headroom_replicaset_failed_attempts_total",
    MetricType.COUNTER,
    "Attempts to create a member that were given up, by reason.",
    (*OBJECT, "reason"),
)
SESSIONS_ENDED = Metric(
    "headroom_replicaset_sessions_ended_total",
    MetricType.COUNTER,
    "Client sessions that outlived a drain or an ejection and were ended.",
    OBJECT,
)
KEPT_WAL = Metric(
    "headroom_replicaset_kept_wal_bytes", MetricType.GAUGE, "WAL that the set's slots keep on the primary.", OBJECT
)
WARMED_AT = Metric(
    "headroom_replicaset_warmed_timestamp_seconds",
    MetricType.GAUGE,
    "When the cache of a standby was last filled, in seconds since 1970.",
    (*OBJECT, "member"),
)
WARMED_BLOCKS = Metric(
    "headroom_replicaset_warmed_blocks",
    MetricType.GAUGE,
    "Blocks that were read into the cache of a standby then.",
    (*OBJECT, "member"),
)
WARMUP_SECONDS = Metric(
    "headroom_replicaset_warmup_seconds",
    MetricType.GAUGE,
    "How long the cache of a standby took to fill then.",
    (*OBJECT, "member"),
)
SNAPSHOTS = Metric(
    "headroom_replicaset_snapshots_total",
    MetricType.COUNTER,
    "Snapshots that were to be taken, by outcome: taken, failed.",
    (*OBJECT, "outcome"),
)
SNAPSHOT_AGE = Metric(
    "headroom_replicaset_snapshot_age_seconds",
    MetricType.GAUGE,
    "Age of the newest snapshot that a replica can start from.",
    OBJECT,
)
SNAPSHOT_BEHIND = Metric(
    "headroom_replicaset_snapshot_behind_bytes",
    MetricType.GAUGE,
    "WAL that was written since that snapshot.",
    OBJECT,
)
SLOTS_LEFT = Metric(
    "headroom_replicaset_slots_left_total",
    MetricType.COUNTER,
    "Slots that deleted sets left on their primary, or 1 if only that is known of a set.",
    ("namespace", "guard"),
)
ALL = (
    MEMBERS,
    DESIRED,
    REPLAY_LAG,
    REPLAY_BACKLOG,
    SESSIONS,
    READS,
    LEAD_TIME,
    ACTIVATIONS,
    EJECTIONS,
    COPIES,
    ATTEMPTS_FAILED,
    SESSIONS_ENDED,
    KEPT_WAL,
    WARMED_AT,
    WARMED_BLOCKS,
    WARMUP_SECONDS,
    SNAPSHOTS,
    SNAPSHOT_AGE,
    SNAPSHOT_BEHIND,
)
"""The metrics of one set; the slots that it left behind are counted for their guard, and outlive it."""

RETIRING = "retiring"


def record_metrics(context: SetContext) -> None:
    """Publish the numbers of this pass."""
    telemetry, labels, members = context.services.telemetry, context.labels, context.decision.members
    roles = [role_of(member) for member in members]
    for role in (*Role, RETIRING):
        telemetry.record(MEMBERS, roles.count(role), **labels, role=str(role))
    telemetry.record(DESIRED, context.decision.goal.desired, **labels)
    kept = count_kept_wal(context)
    if kept is not None:
        telemetry.record(KEPT_WAL, kept, **labels)
    rate = context.memory.reads.rate
    if rate is None:
        telemetry.forget(READS, **labels)
    else:
        telemetry.record(READS, rate, **labels)
    _record_snapshot(context)
    _forget_gone(context)
    for member in members:
        lag, probe = member.facts.measured, member.facts.probe
        if lag is not None:
            telemetry.record(REPLAY_LAG, lag.seconds, **labels, member=member.name)
            telemetry.record(REPLAY_BACKLOG, lag.bytes, **labels, member=member.name)
        if probe is not None:
            telemetry.record(SESSIONS, probe.sessions, **labels, member=member.name)


def role_of(member: EvaluatedMember) -> str:
    """The state of a member in one word: its role, or that it leaves, as does one that is stopped for a snapshot."""
    if not member.facts.is_staying:
        return RETIRING
    return str(member.facts.role or Role.PROVISIONING)


def count_kept_wal(context: SetContext) -> int | None:
    """WAL that the set's slots hold back: from the oldest restart_lsn to where the primary is; None: not known."""
    primary = context.facts.primary
    if primary is None:
        return None
    slots = [*(member.slot for member in context.facts.members if member.slot is not None), *context.facts.anchors]
    kept = [int(slot.restart_lsn) for slot in slots if slot.restart_lsn is not None]
    return max(int(primary.position.lsn) - min(kept), 0) if kept else 0


def _record_snapshot(context: SetContext) -> None:
    """Nothing while no snapshot can be restored: an old age would read as a snapshot that is still there."""
    telemetry, primary = context.services.telemetry, context.facts.primary
    if primary is None:
        return
    newest = next(iter(context.decision.usable_snapshots), None)
    if newest is None:
        telemetry.forget(SNAPSHOT_AGE, SNAPSHOT_BEHIND, **context.labels)
        return
    age = context.now.wall - newest.created_at
    telemetry.record(SNAPSHOT_AGE, max(age.total_seconds(), 0.0), **context.labels)
    telemetry.record(SNAPSHOT_BEHIND, measure_behind(newest, primary.position.lsn), **context.labels)


def _forget_gone(context: SetContext) -> None:
    """A member that is gone must not stay in the metrics with its last lag."""
    names = frozenset(member.name for member in context.decision.members)
    for name in context.handles.measured - names:
        context.services.telemetry.forget(**context.labels, member=name)
    context.handles.measured = names
