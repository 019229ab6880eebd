"""The Kubernetes API as plain dicts: seven small protocols, so that each caller asks only for what it uses.

Errors: `KubeUnavailable` (timeout, 429, 5xx), `Refused` (403, quota, admission, validation), `Conflict` (409, failed
test of a JSON patch, create of what exists). A missing object is `None`, never an error; a missing kind is `NotServed`
(a KubeUnavailable) to a list, so that nobody mistakes the unknown for an empty list.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Manifest = dict[str, Any]
JsonOp = Mapping[str, Any]
FIELD_MANAGER = "headroom"
FINALIZER = "headroom.dev/finalizer"
"""On every object of ours, so that its deletion waits for the teardown."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: `apps/v1`, `Deployment`, and the plural its path uses."""

    api_version: str
    name: str
    plural: str


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """One object by kind, namespace (empty for cluster-scoped kinds) and name."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.name.lower()} {self.namespace}/{self.name}"


POD = Kind("v1", "Pod", "pods")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
EVENT = Kind("v1", "Event", "events")
NAMESPACE = Kind("v1", "Namespace", "namespaces")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
NODE = Kind("v1", "Node", "nodes")
VOLUME_SNAPSHOT = Kind("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "volumesnapshots")
VOLUME_SNAPSHOT_CLASS = Kind("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", "volumesnapshotclasses")
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
HORIZONTAL_POD_AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
TOKEN_REVIEW = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews")
ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews")
WORKER_POOL = Kind("headroom.dev/v1alpha1", "WorkerPool", "workerpools")
REPLICA_SET = Kind("headroom.dev/v1alpha1", "ReplicaSet", "replicasets")
DATABASE_GUARD = Kind("headroom.dev/v1alpha1", "DatabaseGuard", "databaseguards")

OUR_KINDS = (DATABASE_GUARD, REPLICA_SET, WORKER_POOL)
SET_CHILDREN = (POD, CLAIM, ENDPOINT_SLICE, SERVICE, CONFIG_MAP, DISRUPTION_BUDGET, VOLUME_SNAPSHOT)
"""Watched only with the label of a set, so that no other pod or ConfigMap of the cluster is kept."""
OPTIONAL = (VOLUME_SNAPSHOT,)
"""Kinds that a cluster may lack; whether it has them is found out once, at the start."""
WORKLOADS = (DEPLOYMENT, STATEFUL_SET)
WATCHED = (*OUR_KINDS, *SET_CHILDREN, *WORKLOADS, HORIZONTAL_POD_AUTOSCALER)
"""What the cache holds; any other kind is read live."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The `/scale` of an object: the wanted and the present count, and the version it was read at."""

    ref: ObjectRef
    spec_replicas: int
    status_replicas: int
    selector: str
    uid: str
    resource_version: str


class KubeReader(Protocol):
    """Live reads; nothing is cached."""

    async def get(self, ref: ObjectRef) -> Manifest | None:
        """The object, or None when there is none."""
        ...

    async def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Objects of a namespace (all namespaces when empty) whose labels equal all of `labels`; NotServed: unknown."""
        ...


class KubeCache(Protocol):
    """What the watches have seen, and what this process has written since: no call is sent to the API server.

    A hint, never a proof: read the object live before you destroy something or move readers. Kinds outside WATCHED
    raise KeyError, and of SET_CHILDREN only those with the label of a set are kept. Metadata has what passes read:
    our own annotations, the labels of SET_CHILDREN, the controller among the owners. Of WORKLOADS the pod template is a
    digest (`spec.templateDigest`), and of the status only the counts are kept. Returned manifests are shared: nobody
    may change them.
    """

    def get(self, ref: ObjectRef) -> Manifest | None:
        """The object as last seen, or None."""
        ...

    def list_by_target(self, kind: Kind, namespace: str, target: str) -> list[Manifest]:
        """WorkerPools or HorizontalPodAutoscalers of a namespace with a target of this name, by their own name."""
        ...

    def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        """Objects of a namespace (all namespaces when empty) whose labels equal all of `labels`, by name."""
        ...


class WatchFeed(Protocol):
    """Where the watches put what they see of the WATCHED kinds."""

    def observe(self, kind: Kind, seen: Manifest) -> None:
        """Take an object from a list or a watch; one that is older than the known one is ignored."""
        ...

    def hear(self, kind: Kind, seen: Manifest, change: str | None) -> None:
        """Take the event of an object that was observed before: ADDED, MODIFIED, DELETED, or None from a list."""
        ...

    def trim(self, kind: Kind, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """What is kept of an object's metadata, for whoever else has to remember the object."""
        ...


class KubeWriter(Protocol):
    """Writes; each is safe to send again."""

    async def create(self, manifest: Manifest) -> Manifest:
        """POST; Conflict if an object of that name exists."""
        ...

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply with our field manager, forced: only for objects whose controller is ours."""
        ...

    async def patch(self, ref: ObjectRef, operations: Sequence[JsonOp]) -> Manifest:
        """JSON patch; Conflict if a `test` operation fails or the object is gone."""
        ...

    async def delete(
        self,
        ref: ObjectRef,
        *,
        uid: str,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
    ) -> Manifest | None:
        """Delete exactly this incarnation; another uid is a Conflict.

        Returns the object while something still holds it, with its deletionTimestamp; None when it is gone.
        """
        ...


class StatusWriter(Protocol):
    """The status subresource."""

    async def replace_status(self, ref: ObjectRef, *, resource_version: str, status: Mapping[str, Any]) -> Manifest:
        """PUT the whole status if the object still has that resourceVersion, else Conflict."""
        ...


class Scales(Protocol):
    """The scale subresource of anything that has one."""

    async def resolve(self, api_version: str, kind: str) -> Kind | None:
        """Find the kind by discovery; None if the server has none such (misses are remembered 60 s)."""
        ...

    async def get_scale(self, ref: ObjectRef) -> Scale | None:
        """Current scale, or None when the object is missing."""
        ...

    async def set_scale(self, scale: Scale, replicas: int) -> Scale:
        """PUT a new count with the resourceVersion it was read at; Conflict if somebody wrote since."""
        ...


class Kube(KubeReader, KubeWriter, StatusWriter, Scales, Protocol):
    """All of it, for the composition root and the tests."""
