"""headroom.dev/v1alpha1: WorkerPool, ReplicaSet and DatabaseGuard, spec and status.

`parse_*` read a stored object; every spec field has its default filled in, durations are `timedelta`, sizes are bytes.
"""

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.databaseguard_status import DatabaseGuardStatus, GuardState
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.replicaset_status import MemberRole, ReplicaSetStatus
from headroom.api.v1alpha1.resources import (
    DatabaseGuard,
    ObjectMeta,
    ReplicaSet,
    Resource,
    WorkerPool,
    parse_database_guard,
    parse_metadata,
    parse_replica_set,
    parse_status,
    parse_worker_pool,
    read_service_name,
)
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.api.v1alpha1.workerpool_status import WorkerPoolStatus

__all__ = [
    "WorkerPool",
    "ReplicaSet",
    "DatabaseGuard",
    "Resource",
    "ObjectMeta",
    "WorkerPoolSpec",
    "ReplicaSetSpec",
    "DatabaseGuardSpec",
    "WorkerPoolStatus",
    "ReplicaSetStatus",
    "DatabaseGuardStatus",
    "GuardState",
    "MemberRole",
    "parse_worker_pool",
    "parse_replica_set",
    "parse_database_guard",
    "parse_metadata",
    "parse_status",
    "read_service_name",
]
