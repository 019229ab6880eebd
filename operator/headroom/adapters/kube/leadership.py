"""How others see who leads: the label by which the check Service finds the leader's pod, and two metrics."""

from headroom.errors import Conflict
from headroom.ports.kube import POD, JsonOp, KubeReader, KubeWriter, Manifest, ObjectRef
from headroom.ports.telemetry import Metric, MetricType

LEADER_LABEL = "headroom.dev/leader"
LEADER_LABEL_POINTER = "/metadata/labels/headroom.dev~1leader"
HOLDER_SEPARATOR = "_"

LEADER = Metric("headroom_leader", MetricType.GAUGE, "1 while this process holds the lease and may write, else 0.")
LEASE_RENEWALS = Metric(
    "headroom_lease_renewals_total",
    MetricType.COUNTER,
    "Attempts to renew the lease by outcome: Renewed, Taken, or the class of the error.",
    ("outcome",),
)


class LeaderLabel:
    """Puts the label on and takes it off; each call is safe to repeat and raises HeadroomError."""

    def __init__(self, reader: KubeReader, writer: KubeWriter, namespace: str) -> None:
        self._reader = reader
        self._writer = writer
        self._namespace = namespace

    async def put_on(self, holder: str, *, previous_holder: str = "") -> None:
        """Label this holder's pod. The previous holder may hang, so its label is removed here too."""
        if previous_holder and previous_holder != holder:
            await self.take_off(previous_holder)
        pod = await self._find(holder)
        if pod is None:
            raise Conflict(f"no pod of {holder} in {self._namespace}: it was replaced")
        labels = pod["metadata"].get("labels")
        operations: list[JsonOp] = [{"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]}]
        if labels is None:
            operations.append({"op": "add", "path": "/metadata/labels", "value": {LEADER_LABEL: "true"}})
        else:
            operations.append({"op": "add", "path": LEADER_LABEL_POINTER, "value": "true"})
        await self._writer.patch(self._ref(holder), operations)

    async def take_off(self, holder: str) -> None:
        """Remove the label from a holder's pod, if both are there."""
        pod = await self._find(holder)
        if pod is None or LEADER_LABEL not in (pod["metadata"].get("labels") or {}):
            return
        operations: list[JsonOp] = [
            {"op": "test", "path": "/metadata/uid", "value": pod["metadata"]["uid"]},
            {"op": "remove", "path": LEADER_LABEL_POINTER},
        ]
        await self._writer.patch(self._ref(holder), operations)

    async def _find(self, holder: str) -> Manifest | None:
        _, _, uid = holder.rpartition(HOLDER_SEPARATOR)
        pod = await self._reader.get(self._ref(holder))
        return pod if pod is not None and pod["metadata"]["uid"] == uid else None

    def _ref(self, holder: str) -> ObjectRef:
        name, _, _ = holder.rpartition(HOLDER_SEPARATOR)
        return ObjectRef(POD, self._namespace, name)


def build_holder(pod_name: str, pod_uid: str) -> str:
    """The identity in the Lease: the pod's name and uid."""
    return f"{pod_name}{HOLDER_SEPARATOR}{pod_uid}"
