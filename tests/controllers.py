"""The rest of a cluster in memory: kubelet, volume binder, and the controllers of endpoints and Deployments.

A test calls `play` for each step of theirs, and changes a field to let one of them fail.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.manifests.pod import SERVER_TLS_VOLUME
from headroom.model.copies import NONE
from headroom.model.moments import format_time
from headroom.model.replica import COPY_SOURCE_ANNOTATION
from headroom.policy.workerpool.victims import DELETION_COST
from headroom.ports.clock import Clock
from headroom.ports.kube import (
    CLAIM,
    CONFIG_MAP,
    DEPLOYMENT,
    POD,
    SERVICE,
    VOLUME_SNAPSHOT,
    Kind,
    Manifest,
    ObjectRef,
)
from tests.certificates import Authority
from tests.manifests import make

FINALIZER = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection"


def find_all(kube: MemoryKube, kind: Kind) -> Iterator[Manifest]:
    """All objects of a kind as they are, without a call in the log."""
    return iter([stored.manifest for ref, stored in kube.store.entries.items() if ref.kind == kind])


def ref_to(kind: Kind, manifest: Manifest) -> ObjectRef:
    return ObjectRef(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def is_running(pod: Manifest | None) -> bool:
    return pod is not None and pod.get("status", {}).get("phase") == "Running"


@dataclass
class Members:
    """What a set's members need: volumes that bind, a kubelet that copies and starts servers, endpoints that follow.

    `filled` are the claims (by uid) with a complete copy, `failing` names sources from which each copy fails. `spoiled`
    names snapshots whose volumes the seed step refuses, and with which words. `binds`, `copies`, `restores` and `lists`
    switch these off; `ips` are the addresses that the pods of a name have had. `dead` names pods whose node is lost:
    their kubelet does nothing. With `makes_certificates` the image of pods that start can: `reports` has the authority
    of each, by name, which stays on its volume.
    """

    kube: MemoryKube
    postgres: MemoryPostgres
    primary: MemoryServer
    binds: bool = True
    copies: bool = True
    restores: bool = True
    lists: bool = True
    makes_certificates: bool = False
    reports: dict[str, str] = field(default_factory=dict)
    ips: dict[str, str] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    filled: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    spoiled: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.kube)

    def play(self) -> None:
        """One step: what was asked for since the last one happens."""
        mounted = self._find_mounted() if self.binds else ()
        for claim in find_all(self.kube, CLAIM):
            is_free = claim.get("status", {}).get("phase") != "Bound"
            if ref_to(CLAIM, claim) in mounted and is_free and self._has_source(claim):
                self.cluster.bind_claim(ref_to(CLAIM, claim))
        for pod in find_all(self.kube, POD):
            self._play_pod(pod)
        for service in find_all(self.kube, SERVICE):
            if self.lists and service["spec"].get("selector"):
                self._list_endpoints(service)

    def _has_source(self, claim: Manifest) -> bool:
        """Whether the driver has what the volume is to be made of, which may be nothing."""
        name = _find_snapshot(claim)
        found = self.kube.store.entries.get(ObjectRef(VOLUME_SNAPSHOT, claim["metadata"]["namespace"], name))
        is_there = found is not None and "deletionTimestamp" not in found.manifest["metadata"]
        is_ready = is_there and found is not None and found.manifest.get("status", {}).get("readyToUse") is True
        return not name or (is_ready and self.restores)

    def _find_mounted(self) -> set[ObjectRef]:
        """Claims with a consumer: like most storage classes, the binder waits for the first one."""
        pods = [pod for pod in find_all(self.kube, POD) if "deletionTimestamp" not in pod["metadata"]]
        return {
            ObjectRef(CLAIM, pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
            for pod in pods
            for volume in pod["spec"].get("volumes", ())
            if "persistentVolumeClaim" in volume
        }

    def _play_pod(self, pod: Manifest) -> None:
        ref, slot = ref_to(POD, pod), _slot_of(pod)
        if ref.name in self.dead:
            return
        if "deletionTimestamp" in pod["metadata"]:
            if not self._may_finish(pod):
                self._stop(ref.name, slot)
                self.cluster.finish_deletion(ref)
        elif slot and not is_running(pod) and self._has_volumes(pod):
            self._play_seed(pod, slot)

    def _play_seed(self, pod: Manifest, slot: str) -> None:
        """The seed step: it copies what the pod names, takes over what was restored, or finds its copy; then the server
        starts.
        """
        ref, claim = ref_to(POD, pod), self.kube.store.entries[ref_to(CLAIM, pod)].manifest
        uid, snapshot = claim["metadata"]["uid"], _find_snapshot(claim)
        is_filled, source = uid in self.filled or bool(snapshot), pod["metadata"]["annotations"][COPY_SOURCE_ANNOTATION]
        refusal = self.spoiled.get(snapshot) or _find_foreign_mark(pod, snapshot)
        if refusal:
            self._report_seed(ref, {"terminated": {"exitCode": 3, "message": f"seed: {refusal}"}})
        elif not is_filled and source == NONE:
            self._report_seed(ref, {"terminated": {"exitCode": 5, "message": "seed: no source was chosen"}})
        elif not is_filled and source in self.failing:
            message = f"seed: copy 1 of 1 from {source} failed"
            self._report_seed(ref, {"terminated": {"exitCode": 1, "message": message}})
        elif (self.copies or is_filled) and slot in self.primary.slots and not self.primary.is_down:
            self.filled.add(uid)
            self._start(ref, slot)
        else:
            self._report_seed(ref, {"running": {}})

    def _may_finish(self, pod: Manifest) -> bool:
        """Whether clients still run statements on a server that is to stop, and its grace period is not over."""
        clock = self.kube.store.clock
        server = self.postgres.servers.get((self.ips.get(pod["metadata"]["name"], ""), 5432))
        if server is None or clock is None or server.is_down:
            return False
        is_over = clock.now() >= datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
        return not is_over and any(session.state == "active" for session in server.sessions)

    def _has_volumes(self, pod: Manifest) -> bool:
        ref = ref_to(CLAIM, pod)
        claim = self.kube.store.entries.get(ref)
        config = ObjectRef(CONFIG_MAP, ref.namespace, pod["spec"]["volumes"][1]["configMap"]["name"])
        is_bound = claim is not None and claim.manifest.get("status", {}).get("phase") == "Bound"
        return is_bound and config in self.kube.store.entries

    def _report_seed(self, ref: ObjectRef, state: dict[str, Any]) -> None:
        status = {"initContainerStatuses": [{"name": "seed", "restartCount": 0, "state": state}]}
        self.cluster.set_status(ref, status)

    def _start(self, ref: ObjectRef, slot: str) -> None:
        ip = self.ips.setdefault(ref.name, f"10.0.0.{len(self.ips) + 10}")
        volumes = self.kube.store.entries[ref].manifest["spec"]["volumes"]
        self.cluster.run_pod(ref, ip=ip)
        has_given = any(volume["name"] == SERVER_TLS_VOLUME for volume in volumes)
        report = self.make_certificate(ref.name) if self.makes_certificates and not has_given else ""
        self._report_seed(ref, {"terminated": {"exitCode": 0, **({"message": report} if report else {})}})
        if (ip, 5432) not in self.postgres.servers:
            server = self.postgres.add(MemoryServer(ip, upstream=self.primary, roles=dict(self.primary.roles)))
            server.settings |= {"cluster_name": ref.name, **self._read_connections(ref.namespace, volumes)}
        server = self.postgres.servers[ip, 5432]
        server.is_down, server.has_tls = False, has_given or "CERTIFICATE" in report
        server.authority = report.strip() if server.has_tls and report else None
        self.primary.slots[slot].is_active = True

    def make_certificate(self, name: str) -> str:
        """What the seed step of a pod reports."""
        if name not in self.reports:
            self.reports[name] = Authority(name).ca_pem
        return self.reports[name]

    def _read_connections(self, namespace: str, volumes: list[dict[str, Any]]) -> dict[str, str]:
        """How many connections a server is configured for."""
        config = self.kube.store.entries[ObjectRef(CONFIG_MAP, namespace, volumes[1]["configMap"]["name"])].manifest
        lines = (line.partition(" = ") for line in config["data"]["postgresql.conf"].splitlines())
        return {name: value.strip("'") for name, _, value in lines if name.endswith("_connections")}

    def _stop(self, name: str, slot: str) -> None:
        server = self.postgres.servers.get((self.ips.get(name, ""), 5432))
        if server is not None:
            server.is_down = True
            server.restart()
        if slot in self.primary.slots:
            self.primary.slots[slot].is_active = False

    def _list_endpoints(self, service: Manifest) -> None:
        selector = service["spec"]["selector"]
        names = [
            pod["metadata"]["name"]
            for pod in find_all(self.kube, POD)
            if selector.items() <= (pod["metadata"].get("labels") or {}).items() and is_running(pod)
        ]
        self.cluster.publish_endpoints(service["metadata"]["namespace"], service["metadata"]["name"], names)


@dataclass
class Snapshots:
    """The snapshot controller and its driver: a snapshot is ready `ready_after` seconds after it was created. With
    `cut_after` it has its data before that, so many seconds after it was created.

    With `error` the driver says that instead. With `is_away` nothing happens, and what is deleted stays for its
    finalizer; so does what a claim waits for, of which the driver makes no volume any more. `of_running` names the
    snapshots that were cut while a pod used their volume.
    """

    kube: MemoryKube
    clock: Clock
    ready_after: float = 2.0
    cut_after: float | None = None
    error: str = ""
    is_away: bool = False
    of_running: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.kube)

    def play(self) -> None:
        """One step."""
        for snapshot in find_all(self.kube, VOLUME_SNAPSHOT) if not self.is_away else ():
            ref, metadata = ref_to(VOLUME_SNAPSHOT, snapshot), snapshot["metadata"]
            if "deletionTimestamp" in metadata:
                if not self._is_awaited(ref):
                    self.cluster.edit(ref, lambda item: item["metadata"].pop("finalizers", None))
                continue
            if FINALIZER not in metadata.get("finalizers", ()):
                self.cluster.edit(ref, lambda item: item["metadata"].update(finalizers=[FINALIZER]))
            if not (snapshot.get("status") or {}).get("readyToUse"):
                self._take(ref, snapshot)

    def _is_awaited(self, ref: ObjectRef) -> bool:
        """Whether a claim has no volume of it yet."""
        claims = [item for item in find_all(self.kube, CLAIM) if item["metadata"]["namespace"] == ref.namespace]
        return any(
            _find_snapshot(item) == ref.name and item.get("status", {}).get("phase") != "Bound" for item in claims
        )

    def _take(self, ref: ObjectRef, snapshot: Manifest) -> None:
        created_at = datetime.fromisoformat(snapshot["metadata"]["creationTimestamp"])
        if self.error:
            if (snapshot.get("status") or {}).get("error") != {"message": self.error}:
                self.cluster.fail_snapshot(ref, self.error)
            return
        age, is_cut = (self.clock.now() - created_at).total_seconds(), "creationTime" in (snapshot.get("status") or {})
        if not is_cut and age >= (self.ready_after if self.cut_after is None else self.cut_after):
            claim = snapshot["spec"]["source"]["persistentVolumeClaimName"]
            if ObjectRef(POD, ref.namespace, claim) in self.kube.store.entries:
                self.of_running.add(ref.name)
            self.cluster.cut_snapshot(ref)
        if age >= self.ready_after:
            self.cluster.ready_snapshot(ref)


@dataclass
class Deployments:
    """The Deployments' controller and the kubelet of their pods: as many as asked for, each Ready after its start.

    Only what has changed is looked at, so that thousands of Deployments cost nothing while they are calm. With
    `grace_seconds` pods that are not wanted any more terminate, until a test lets them go; `pod_grace_seconds` is what
    their template asks for.
    """

    kube: MemoryKube
    clock: Clock
    start_seconds: float = 2.0
    grace_seconds: int = 0
    pod_grace_seconds: int = 30
    created: int = 0
    _changed: dict[ObjectRef, None] = field(default_factory=dict)
    _pods: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)
    _starting: list[tuple[datetime, ObjectRef, ObjectRef]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.kube)
        self.kube.store.listeners.append(self._hear)

    def play(self) -> None:
        """One step: pods come and go, and those whose start is over become Ready."""
        now = self.clock.now()
        due = [entry for entry in self._starting if entry[0] <= now]
        self._starting = [entry for entry in self._starting if entry[0] > now]
        for ready_at, pod, deployment in due:
            self._make_ready(pod, ready_at)
            self._changed[deployment] = None
        changed, self._changed = self._changed, {}
        for ref in changed:
            if ref in self.kube.store.entries:
                self._roll_out(ref)

    def _hear(self, change: str, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        if manifest["kind"] == DEPLOYMENT.name and change != "DELETED":
            self._changed[ref_to(DEPLOYMENT, manifest)] = None
        app = (metadata.get("labels") or {}).get("app")
        if manifest["kind"] == POD.name and app is not None and change != "MODIFIED":
            pods = self._pods.setdefault((metadata["namespace"], app), {})
            if change == "ADDED":
                pods[metadata["name"]] = None
            else:
                pods.pop(metadata["name"], None)

    def _roll_out(self, ref: ObjectRef) -> None:
        deployment = self.kube.store.entries[ref].manifest
        wanted, app = deployment["spec"]["replicas"], deployment["spec"]["selector"]["matchLabels"]["app"]
        own = list(self._pods.get((ref.namespace, app), ()))
        for name in sorted(own, key=lambda name: self._rank(ref.namespace, name, own))[: max(0, len(own) - wanted)]:
            self._end(ObjectRef(POD, ref.namespace, name), app)
        for _ in range(wanted - len(own)):
            self._start(ref, app)
        ready = sum(
            map(
                self._is_ready,
                [ObjectRef(POD, ref.namespace, name) for name in self._pods.get((ref.namespace, app), ())],
            )
        )
        self.cluster.set_status(ref, {"replicas": wanted, "readyReplicas": ready}, manager="deployment-controller")
        self._changed.pop(ref, None)

    def _rank(self, namespace: str, name: str, own: list[str]) -> tuple[bool, int, int]:
        """Where a pod stands among those that go: not ready, lower deletion cost, younger."""
        ref = ObjectRef(POD, namespace, name)
        annotations = self.kube.store.entries[ref].manifest["metadata"].get("annotations") or {}
        return self._is_ready(ref), int(annotations.get(DELETION_COST, "0")), -own.index(name)

    def _end(self, pod: ObjectRef, app: str) -> None:
        if not self.grace_seconds:
            self.cluster.remove(pod)
            return
        self.cluster.schedule(pod)
        self.cluster.delete(pod, grace_seconds=self.grace_seconds)
        self._pods[pod.namespace, app].pop(pod.name)

    def _start(self, deployment: ObjectRef, app: str) -> None:
        self.created += 1
        name = f"{deployment.name}-{self.created}"
        spec = {"terminationGracePeriodSeconds": self.pod_grace_seconds}
        pod = self.cluster.seed(make(POD, name, deployment.namespace, metadata={"labels": {"app": app}}, spec=spec))
        ready_at = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) + timedelta(seconds=self.start_seconds)
        self._starting.append((ready_at, ref_to(POD, pod), deployment))

    def _make_ready(self, ref: ObjectRef, ready_at: datetime) -> None:
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": format_time(ready_at)}
        if ref in self.kube.store.entries:
            self.cluster.set_status(ref, {"phase": "Running", "conditions": [condition]})

    def _is_ready(self, ref: ObjectRef) -> bool:
        pod = self.kube.store.entries[ref].manifest
        conditions = pod.get("status", {}).get("conditions") or ()
        return is_running(pod) and any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _find_snapshot(claim: Manifest) -> str:
    """The snapshot that its volume is made of; empty if it begins empty."""
    return str((claim["spec"].get("dataSource") or {}).get("name", ""))


def _find_foreign_mark(pod: Manifest, source: str) -> str:
    """What the seed step says of a volume from a snapshot if nobody has told it of which."""
    is_told = bool(_variable_of(pod, "RESTORE") and _variable_of(pod, "RESTORED_SLOT"))
    return "the volume holds the copy of another member" if source and not is_told else ""


def _slot_of(pod: Manifest) -> str:
    return _variable_of(pod, "SLOT")


def _variable_of(pod: Manifest, name: str) -> str:
    spec = pod["spec"]
    containers = spec.get("initContainers") or spec.get("containers") or ({},)
    return next((entry["value"] for entry in containers[0].get("env", ()) if entry["name"] == name), "")
