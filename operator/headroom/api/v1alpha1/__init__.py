"""headroom.dev/v1alpha1: WorkerPool, ReplicaSet and DatabaseGuard, spec and status.

`parse_spec` reads what is stored: every spec field has its default filled in, durations are `timedelta`, sizes bytes.
"""

from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.databaseguard_status import DatabaseGuardStatus, GuardState
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.replicaset_status import MemberRole, ReplicaSetStatus
from headroom.api.v1alpha1.resources import parse_spec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.api.v1alpha1.workerpool_status import WorkerPoolStatus

__all__ = [
    "WorkerPoolSpec",
    "ReplicaSetSpec",
    "DatabaseGuardSpec",
    "WorkerPoolStatus",
    "ReplicaSetStatus",
    "DatabaseGuardStatus",
    "GuardState",
    "MemberRole",
    "parse_spec",
]
