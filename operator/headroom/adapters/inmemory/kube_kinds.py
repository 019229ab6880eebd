"""The kinds that the Kubernetes API in memory serves, and which of them have status and scale."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headroom.errors import Refused
from headroom.ports import kube as ports
from headroom.ports.kube import DEPLOYMENT, NODE, STATEFUL_SET, Kind, Manifest, ObjectRef, Scale
from headroom.reasons import Reason

CRON_JOB = Kind("batch/v1", "CronJob", "cronjobs")
WITHOUT_STATUS = (
    ports.CONFIG_MAP,
    ports.SECRET,
    ports.EVENT,
    ports.ENDPOINT_SLICE,
    ports.LEASE,
    ports.VOLUME_SNAPSHOT_CLASS,
)
WITH_STATUS = (
    ports.POD,
    ports.CLAIM,
    ports.SERVICE,
    ports.NAMESPACE,
    ports.DISRUPTION_BUDGET,
    ports.VOLUME_SNAPSHOT,
    ports.HORIZONTAL_POD_AUTOSCALER,
    ports.WORKER_POOL,
    ports.REPLICA_SET,
    ports.DATABASE_GUARD,
    DEPLOYMENT,
    STATEFUL_SET,
    CRON_JOB,
    NODE,
)
CLUSTER_SCOPED = frozenset({ports.NAMESPACE, NODE, ports.VOLUME_SNAPSHOT_CLASS})


@dataclass(frozen=True, slots=True)
class ScaleView:
    """How the scale of a kind is read; `read_selector` gives the label selector as text."""

    read_selector: Callable[[Manifest], str]

    def read(self, ref: ObjectRef, live: Manifest) -> Scale:
        """The scale as the object now has it."""
        metadata = live["metadata"]
        return Scale(
            ref=ref,
            spec_replicas=live["spec"].get("replicas", 1),
            status_replicas=live.get("status", {}).get("replicas", 0),
            selector=self.read_selector(live),
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
        )


def _selector_of_workload(live: Manifest) -> str:
    labels: dict[str, Any] = live["spec"].get("selector", {}).get("matchLabels", {})
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _selector_in_status(live: Manifest) -> str:
    return str(live.get("status", {}).get("selector", ""))


WORKLOAD_SCALE = ScaleView(_selector_of_workload)
CUSTOM_SCALE = ScaleView(_selector_in_status)


@dataclass(slots=True)
class KindRegistry:
    """Kinds by apiVersion and name; `register` adds what a test invents."""

    _kinds: dict[tuple[str, str], Kind] = field(default_factory=dict)
    _with_status: set[Kind] = field(default_factory=set)
    _scales: dict[Kind, ScaleView] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in WITHOUT_STATUS:
            self.register(kind, has_status=False)
        for kind in WITH_STATUS:
            self.register(kind)
        self._scales.update({DEPLOYMENT: WORKLOAD_SCALE, STATEFUL_SET: WORKLOAD_SCALE})
        self._scales[ports.REPLICA_SET] = CUSTOM_SCALE

    def register(self, kind: Kind, *, has_status: bool = True, scale: ScaleView | None = None) -> None:
        """Serve one more kind."""
        self._kinds[kind.api_version, kind.name] = kind
        if has_status:
            self._with_status.add(kind)
        if scale is not None:
            self._scales[kind] = scale

    def remove(self, kind: Kind) -> None:
        """Stop serving a kind."""
        self._kinds.pop((kind.api_version, kind.name), None)

    def find(self, api_version: str, name: str) -> Kind | None:
        """The kind, or None when it is not served."""
        return self._kinds.get((api_version, name))

    def ref_of(self, manifest: Manifest) -> ObjectRef:
        """The reference of a manifest; Refused if its kind is not served or its name is missing."""
        kind = self.find(str(manifest.get("apiVersion")), str(manifest.get("kind")))
        metadata = manifest.get("metadata") or {}
        if kind is None:
            missing = f"no kind {manifest.get('kind')} in {manifest.get('apiVersion')}"
            raise Refused(missing, reason=Reason.INVALID_SPEC)
        if not metadata.get("name"):
            raise Refused(f"{kind.name}: metadata.name: name is required", reason=Reason.INVALID_SPEC)
        namespace = "" if kind in CLUSTER_SCOPED else metadata.get("namespace", "")
        return ObjectRef(kind, namespace, metadata["name"])

    def has_status(self, kind: Kind) -> bool:
        """True when `status` is a subresource of the kind."""
        return kind in self._with_status

    def scale_of(self, kind: Kind) -> ScaleView:
        """How to read the kind's scale; Refused when it has none."""
        if kind not in self._scales:
            message = f"{kind.name} in {kind.api_version} has no scale subresource"
            raise Refused(message, reason=Reason.TARGET_NOT_SCALABLE)
        return self._scales[kind]
