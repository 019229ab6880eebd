"""The parts of a CustomResourceDefinition that are not the schema: names, columns, subresources."""

from dataclasses import dataclass

from headroom.api.base import Json, Model
from headroom.api.v1alpha1 import (
    DatabaseGuardSpec,
    DatabaseGuardStatus,
    ReplicaSetSpec,
    ReplicaSetStatus,
    WorkerPoolSpec,
    WorkerPoolStatus,
)

READY = '.status.conditions[?(@.type=="Ready")]'


@dataclass(frozen=True, slots=True)
class Column:
    """A column of `kubectl get`; a wide one is shown with `-o wide` only."""

    name: str
    path: str
    type: str
    description: str
    is_wide: bool = False

    def to_json(self) -> Json:
        """The column as the API server reads it."""
        return {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.path,
            "description": self.description,
            "priority": int(self.is_wide),
        }


@dataclass(frozen=True, slots=True)
class KindDefinition:
    """A kind: its names, its models, its columns and, where it can be scaled, the paths of its scale."""

    kind: str
    plural: str
    short_name: str
    description: str
    spec: type[Model]
    status: type[Model]
    columns: tuple[Column, ...]
    scale: Json | None = None


AGE = Column("Age", ".metadata.creationTimestamp", "date", "Time since it was created.")
IS_READY = Column("Ready", f"{READY}.status", "string", "Whether Headroom acts on it.")
FOREMOST = Column("Reason", ".status.reason", "string", "Why it is not Ready, else what else is not as it should be.")
WHY = Column("Reason", f"{READY}.reason", "string", "Why it is Ready or not.")

WORKER_POOL = KindDefinition(
    kind="WorkerPool",
    plural="workerpools",
    short_name="wp",
    description="Workers that drain one or more queues: their number follows the lag of the queue, within what the"
    " database behind them can bear.",
    spec=WorkerPoolSpec,
    status=WorkerPoolStatus,
    columns=(
        Column("Lag-Sec", ".status.queue.lagSeconds", "number", "Seconds the queue is behind."),
        Column("Backlog", ".status.queue.backlog", "integer", "Items that are ready and wait."),
        Column("Workers", ".status.workers", "integer", "Workers that exist."),
        Column("Desired", ".status.desiredWorkers", "integer", "Workers that are wanted and allowed."),
        Column("ETA-Sec", ".status.queue.drainSeconds", "number", "Seconds until the backlog is gone."),
        Column(
            "Limit", ".status.lastDecision.limit", "string", "What keeps workers back: the reason of ScalingLimited."
        ),
        IS_READY,
        FOREMOST,
        AGE,
        Column("Priority", ".spec.priority", "string", "Who gives way first.", is_wide=True),
        Column("Decision", ".status.lastDecision.reason", "string", "Reason of the last decision.", is_wide=True),
        Column("Failed", ".status.queue.failed", "integer", "Attempts that failed in ten minutes.", is_wide=True),
        Column("Paused", ".status.paused", "string", "What is paused: Up, Down or Both.", is_wide=True),
    ),
)

REPLICA_SET = KindDefinition(
    kind="ReplicaSet",
    plural="replicasets",
    short_name="dbrs",
    description="Read replicas of one PostgreSQL primary behind a read Service, with warm standbys that serve about a"
    " second after they are needed.",
    spec=ReplicaSetSpec,
    status=ReplicaSetStatus,
    columns=(
        Column("Desired", ".status.desiredReplicas", "integer", "Replicas that should serve."),
        Column("Serving", ".status.replicas", "integer", "Replicas that serve."),
        Column("Standby", ".status.standbys", "integer", "Warm replicas."),
        Column("Provisioning", ".status.provisioning", "integer", "Replicas that are being created."),
        Column(
            "Lag-Sec", ".status.maxReplayLagSeconds", "number", "Replay lag of the worst serving replica, in seconds."
        ),
        IS_READY,
        FOREMOST,
        AGE,
        Column("Method", ".status.method", "string", "What the replicas were created from.", is_wide=True),
        Column("Warm-Sec", ".status.leadTime.warmSeconds", "number", "Seconds until one is confirmed.", is_wide=True),
        Column(
            "Snapshot-Sec", ".status.leadTime.volumeSnapshotSeconds", "number", "Seconds from a snapshot.", is_wide=True
        ),
        Column(
            "Backup-Sec", ".status.leadTime.baseBackupSeconds", "number", "Seconds from a base backup.", is_wide=True
        ),
        Column("Decision", ".status.lastDecision.reason", "string", "Reason of the last decision.", is_wide=True),
    ),
    scale={
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
)

DATABASE_GUARD = KindDefinition(
    kind="DatabaseGuard",
    plural="databaseguards",
    short_name="dbg",
    description="One PostgreSQL primary: how to reach it, its connection budget, and how it is protected.",
    spec=DatabaseGuardSpec,
    status=DatabaseGuardStatus,
    columns=(
        Column("State", ".status.state", "string", "Healthy, Brownout, Overloaded, Emergency or Unknown."),
        Column("Signal", ".status.stateSignal", "string", "The measurement that caused the state."),
        Column("Commit-Msec", ".status.commitLatencyMilliseconds", "number", "Milliseconds a small commit takes."),
        Column("Connections", ".status.connections.used", "integer", "Client connections in use."),
        Column("Waiters", ".status.lockWaiters", "integer", "Sessions that wait for a lock."),
        IS_READY,
        WHY,
        AGE,
        Column("Mode", ".spec.mode", "string", "Whether verdicts are carried out.", is_wide=True),
        Column("Usable", ".status.connections.usable", "integer", "Client connections that are allowed.", is_wide=True),
        Column("Budget", ".status.connections.budget", "integer", "Connections workers may hold.", is_wide=True),
        Column("Host", ".spec.connection.host", "string", "Where the primary is.", is_wide=True),
    ),
)

KINDS = (WORKER_POOL, REPLICA_SET, DATABASE_GUARD)
