"""The rest of the cluster, played by a test: users, scheduler, kubelet, controllers.

Nothing here passes the fence or the faults, and nothing is written to the log of `MemoryKube`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_fields import Manager
from headroom.adapters.inmemory.kube_store import copy_json
from headroom.errors import Refused
from headroom.ports.kube import CLAIM, DISRUPTION_BUDGET, ENDPOINT_SLICE, POD, SERVICE, Manifest, ObjectRef
from headroom.reasons import Reason


class Cluster:
    """Changes the objects of a `MemoryKube` directly."""

    def __init__(self, kube: MemoryKube) -> None:
        self._kube = kube
        self._store = kube.store

    def seed(self, manifest: Manifest, *, manager: str = "kubectl") -> Manifest:
        """Add an object as another client would, its status included."""
        return self._store.add(self._kube.kinds.ref_of(manifest), manifest, Manager(manager))

    def read(self, ref: ObjectRef) -> Manifest | None:
        """The object as it is, without a call in the log."""
        entry = self._store.entries.get(ref)
        return None if entry is None else copy_json(entry.manifest)

    def edit(
        self, ref: ObjectRef, change: Callable[[Manifest], None], *, manager: str = "kubectl", subresource: str = ""
    ) -> Manifest:
        """Change an object in place as another field manager; any field may be changed."""
        new = copy_json(self._store.entries[ref].manifest)
        change(new)
        return self._store.change(ref, new, Manager(manager, subresource=subresource))

    def set_status(self, ref: ObjectRef, status: Mapping[str, Any], *, manager: str = "kubelet") -> Manifest:
        """Merge these members into the object's status."""

        def change(manifest: Manifest) -> None:
            manifest["status"] = {**manifest.get("status", {}), **status}

        return self.edit(ref, change, manager=manager, subresource="status")

    def delete(self, ref: ObjectRef, *, grace_seconds: int | None = None) -> None:
        """`kubectl delete`, without waiting."""
        self._store.delete(ref, grace_seconds)

    def evict(self, ref: ObjectRef) -> None:
        """`kubectl drain`, for one pod: Refused if it is Ready and a disruption budget would not be kept.

        Budgets have `matchLabels` and `minAvailable`.
        """
        pod = self._store.entries[ref].manifest
        for entry in self._store.entries.values() if _is_ready(pod) else ():
            if entry.manifest["kind"] == DISRUPTION_BUDGET.name and _selects(entry.manifest, pod):
                self._check_budget(entry.manifest, ref)
        condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
        conditions = [*pod.get("status", {}).get("conditions", ()), condition]
        self.set_status(ref, {"conditions": conditions}, manager="kube-controller-manager")
        self._store.delete(ref)

    def _check_budget(self, budget: Manifest, ref: ObjectRef) -> None:
        selected = [
            entry.manifest
            for other, entry in self._store.entries.items()
            if other.kind == POD and _selects(budget, entry.manifest)
        ]
        healthy = sum(_is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in selected)
        if healthy - 1 < budget["spec"]["minAvailable"]:
            message = f"cannot evict {ref}: it would violate the disruption budget {budget['metadata']['name']}"
            raise Refused(message, reason=Reason.KUBE_UNAVAILABLE)

    def remove(self, ref: ObjectRef) -> None:
        """Remove an object whatever holds it; the kubelet does so with a pod that has stopped."""
        self._store.remove(ref)

    def schedule(self, ref: ObjectRef, node: str = "node-1") -> Manifest:
        """Bind a pod to a node, as the scheduler does."""
        return self.edit(ref, lambda pod: pod["spec"].update(nodeName=node), manager="kube-scheduler")

    def run_pod(self, ref: ObjectRef, *, ip: str = "10.0.0.1", node: str = "node-1", is_ready: bool = True) -> Manifest:
        """Schedule a pod if need be and report it Running; `is_ready` is its Ready condition."""
        self.schedule(ref, node)
        names = [container["name"] for container in self._store.entries[ref].manifest["spec"].get("containers", ())]
        return self.set_status(
            ref,
            {
                "phase": "Running",
                "podIP": ip,
                "podIPs": [{"ip": ip}],
                "conditions": _pod_conditions(is_ready=is_ready),
                "containerStatuses": [
                    {"name": name, "ready": is_ready, "started": True, "restartCount": 0, "state": {"running": {}}}
                    for name in names
                ],
            },
        )

    def end_pod(self, ref: ObjectRef, *, exit_code: int = 1, message: str = "") -> Manifest:
        """Report a pod Failed, or Succeeded with exit code 0."""
        phase = "Failed" if exit_code else "Succeeded"
        return self.set_status(ref, {"phase": phase, "message": message, "conditions": _pod_conditions(is_ready=False)})

    def finish_deletion(self, ref: ObjectRef) -> None:
        """Let the kubelet report that a pod being deleted has stopped."""

        def change(pod: Manifest) -> None:
            pod["metadata"]["deletionGracePeriodSeconds"] = 0

        self.edit(ref, change, manager="kubelet")

    def bind_claim(self, ref: ObjectRef, *, volume: str = "") -> Manifest:
        """Bind a claim to a volume of the size it asks for."""

        def bind(claim: Manifest) -> None:
            claim["spec"]["volumeName"] = volume or f"pv-{claim['metadata']['name']}"
            capacity = claim["spec"].get("resources", {}).get("requests", {})
            claim["status"] = {**claim.get("status", {}), "phase": "Bound", "capacity": dict(capacity)}

        if ref.kind != CLAIM:
            raise ValueError(f"{ref} is not a claim")
        return self.edit(ref, bind, manager="kube-controller-manager")

    def ready_snapshot(self, ref: ObjectRef, *, size: str = "1Gi") -> Manifest:
        """Let the snapshot controller report that a snapshot can be restored, into a volume of this size at least."""
        status = {"readyToUse": True, "restoreSize": size, "error": None, "creationTime": self._store.timestamp()}
        return self.set_status(ref, status, manager="snapshot-controller")

    def cut_snapshot(self, ref: ObjectRef) -> Manifest:
        """Let it report that the snapshot has its data, and is being uploaded."""
        status = {"readyToUse": False, "error": None, "creationTime": self._store.timestamp()}
        return self.set_status(ref, status, manager="snapshot-controller")

    def fail_snapshot(self, ref: ObjectRef, message: str) -> Manifest:
        """Let it report what the driver said; it continues to try."""
        status = {"readyToUse": False, "error": {"message": message}}
        return self.set_status(ref, status, manager="snapshot-controller")

    def publish_endpoints(self, namespace: str, service: str, pods: Sequence[str]) -> Manifest:
        """Write the Service's EndpointSlice with these pods, in the state their Ready condition gives.

        Its controller copies the labels of the Service, by which the watch finds the slice.
        """
        ref = ObjectRef(ENDPOINT_SLICE, namespace, f"{service}-1")
        endpoints = [self._endpoint(namespace, name) for name in pods]
        labels = {**self._labels_of(namespace, service), "kubernetes.io/service-name": service}

        def change(item: Manifest) -> None:
            item["endpoints"], item["metadata"]["labels"] = endpoints, labels

        if ref in self._store.entries:
            return self.edit(ref, change, manager="endpointslice-controller")
        manifest = {
            "apiVersion": ENDPOINT_SLICE.api_version,
            "kind": ENDPOINT_SLICE.name,
            "metadata": {"namespace": namespace, "name": ref.name, "labels": labels},
            "addressType": "IPv4",
            "endpoints": endpoints,
        }
        return self.seed(manifest, manager="endpointslice-controller")

    def _labels_of(self, namespace: str, service: str) -> dict[str, str]:
        entry = self._store.entries.get(ObjectRef(SERVICE, namespace, service))
        return {} if entry is None else dict(entry.manifest["metadata"].get("labels") or {})

    def _endpoint(self, namespace: str, name: str) -> dict[str, Any]:
        pod = self._store.entries[ObjectRef(POD, namespace, name)].manifest
        status = pod.get("status", {})
        is_ready = _is_ready(pod)
        is_terminating = "deletionTimestamp" in pod["metadata"]
        return {
            "addresses": [status.get("podIP", "")],
            "conditions": {
                "ready": is_ready and not is_terminating,
                "serving": is_ready,
                "terminating": is_terminating,
            },
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": name, "uid": pod["metadata"]["uid"]},
        }


def _selects(budget: Manifest, pod: Manifest) -> bool:
    if pod["metadata"]["namespace"] != budget["metadata"]["namespace"]:
        return False
    labels: dict[str, str] = pod["metadata"].get("labels") or {}
    wanted: dict[str, str] = budget["spec"]["selector"]["matchLabels"]
    return wanted.items() <= labels.items()


def _is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _pod_conditions(*, is_ready: bool) -> list[dict[str, Any]]:
    truth = "True" if is_ready else "False"
    return [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Initialized", "status": "True"},
        {"type": "ContainersReady", "status": truth},
        {"type": "Ready", "status": truth},
    ]
