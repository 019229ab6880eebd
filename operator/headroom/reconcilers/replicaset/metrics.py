"""The metrics of ReplicaSets."""

from headroom.model.metrics import Metric, MetricType

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
    "WAL a member has still to replay.",
    (*OBJECT, "member"),
)
SESSIONS = Metric("headroom_replicaset_sessions", MetricType.GAUGE, "Client sessions on a member.", (*OBJECT, "member"))
LEAD_TIME = Metric(
    "headroom_replicaset_lead_seconds",
    MetricType.HISTOGRAM,
    "From decision to capacity: warm to the first read answered, base_backup to a caught-up standby.",
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
ATTEMPTS_FAILED = Metric(
    "headroom_replicaset_failed_attempts_total",
    MetricType.COUNTER,
    "Attempts to make a member that were given up, by reason.",
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
SLOTS_LEFT = Metric(
    "headroom_replicaset_slots_left_total",
    MetricType.COUNTER,
    "Slots that deleted sets left on their primary, 1 for a set of which only that is known.",
    ("namespace", "guard"),
)
