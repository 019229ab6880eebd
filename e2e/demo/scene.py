"""Setting the scene: operator, shop, guard, replicas, queue and workers; and the two loads."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.demo.plan import (
    ARRIVALS,
    LONGEST,
    MAX_CONNECTIONS,
    PGBENCH_SCALE,
    READERS,
    RESERVED,
    SERVICE_SECONDS,
    SUPERUSER_RESERVED,
    TARGET_LAG_SECONDS,
    UTILIZATION_PERCENT,
    Profile,
)
from e2e.demo.timeline import Timeline
from e2e.lab import shop
from e2e.lab.kubectl import Kubectl, Manifest, Stream, follow_logs, watch
from e2e.lab.opening import Shop
from e2e.lab.release import Release
from e2e.lab.waiting import TimedOut, wait_until

SET_PODS = "headroom.dev/replica-set=store"
WORKERS = "commands"
DEFAULT_CLASS = "snapshot.storage.kubernetes.io/is-default-class"
FRESH_SECONDS = 300.0
"""One base backup, a stop and a snapshot, which take some 20 s here; on a busy machine much longer."""
CALM_SECONDS = 300.0
"""The guard asks for 120 quiet seconds for each level."""
Say = Callable[[str], None]


@dataclass(slots=True)
class Scene:
    """Everything the demo runs on; without a class of snapshots new replicas are copied."""

    release: Release
    shop: Shop
    snapshot_class: str | None = None
    streams: list[Stream] = field(default_factory=list)

    def set(self, say: Say) -> None:
        """Install, load, provision; ends when one replica serves, one stands by and the workers wait."""
        say("operator: helm install")
        self.release.install()
        self.shop.open(scale=PGBENCH_SCALE, say=say)
        say("queue: procrastinate schema and workers")
        self._once("queue-schema", "produce.py", "--create-schema-only", host=shop.PRIMARY)
        self.shop.let_queue_be_read()
        self.shop.kubectl.apply(self._workers())
        say("resources: DatabaseGuard, ReplicaSet, WorkerPool")
        self.shop.kubectl.apply(*resources(self.shop.postgres_image, self.snapshot_class))
        self.shop.wait_ready("dbg", shop.GUARD)
        say("replicas: the first two are copied from the primary, by base backup")
        self.shop.wait_counts(serving=1, standbys=1, timeout=300)
        if self.snapshot_class:
            say("replicas: a snapshot, for those that come later")
            self._wait_condition("dbrs", "store", "SnapshotFresh", say)
            self.shop.wait_counts(serving=1, standbys=1)
        self.shop.wait_ready("dbrs", "store")
        self.shop.wait_ready("wp", WORKERS)
        self._wait_healthy(say)

    def begin(self, timeline: Timeline) -> None:
        """Start watching, then both loads."""
        timeline.has_snapshots = self.snapshot_class is not None
        space = self.shop.kubectl.namespace
        self.streams += [
            watch(space, "pods", timeline.on_pod, SET_PODS),
            watch(space, "deployments", timeline.on_workers, f"app={WORKERS}"),
            watch(space, "pvc", timeline.on_claim, SET_PODS),
            watch(space, "dbrs", timeline.on_resource),
            watch(space, "wp", timeline.on_resource),
            watch(space, "dbg", timeline.on_guard),
        ]
        self._run("producer", "produce.py", ARRIVALS, host=shop.PRIMARY, user=shop.OWNER)
        self._run("readers", "readers.py", READERS, host=shop.READ_SERVICE, user=shop.READER)
        self.streams += [
            follow_logs(space, "producer", timeline.on_queue),
            follow_logs(space, "readers", timeline.on_reads),
        ]

    def end(self) -> None:
        """Stop watching and end the loads."""
        for stream in self.streams:
            stream.stop()
        self.shop.kubectl("delete", "pod", "producer", "readers", "--ignore-not-found", "--wait=false")

    def _wait_condition(self, kind: str, name: str, type_: str, say: Say) -> None:
        """Wait for a condition to be True, and say what it says meanwhile."""
        told = ""

        def look() -> bool:
            nonlocal told
            verdict = self.shop.kubectl.condition(kind, name, type_)
            if (text := verdict.get("message", "")) != told:
                told = text
                say(f"  {text}")
            assert verdict.get("status") == "True", f"{type_}: {text}"
            return True

        wait_until(f"{type_} of {kind}/{name}", look, timeout=FRESH_SECONDS)

    def _wait_healthy(self, say: Say) -> None:
        """Until the guard has forgotten the copies, which it does after two quiet minutes; a busy machine has none."""
        if self._state() == "Healthy":
            return
        say(f"primary: {self._state()} since the copies; Healthy again after two quiet minutes")
        try:
            wait_until(
                "the guard to call the primary Healthy", lambda: self._state() == "Healthy", timeout=CALM_SECONDS
            )
        except TimedOut:
            say(f"primary: still {self._state()} after {CALM_SECONDS:.0f} s; the load begins all the same")

    def _state(self) -> str:
        status = (self.shop.kubectl.get("dbg", shop.GUARD) or {}).get("status") or {}
        return str(status.get("state", "Unknown"))

    def _workers(self) -> Manifest:
        command = ("python3", "/app/worker.py", "--queue", WORKERS)
        variables = {**shop.login(shop.PRIMARY), "CONCURRENCY": "1"}
        deployment = shop.app_deployment(WORKERS, self.shop.worker_image, command, variables)
        deployment["metadata"]["labels"] = {"app": WORKERS}
        return deployment

    def _run(self, name: str, script: str, profile: Profile, *, host: str, user: str) -> None:
        command = ["python3", f"/app/{script}", "--profile", json.dumps(profile), "--duration", str(LONGEST)]
        if script == "produce.py":
            command += ["--queue", WORKERS, "--service-seconds", str(SERVICE_SECONDS), "--commits"]
        self.shop.kubectl.delete("pod", name)
        self.shop.kubectl.apply(shop.app_pod(name, self.shop.worker_image, command, shop.login(host, user)))
        wait_until(f"pod {name} to run", lambda: self._phase(name) in ("Running", "Succeeded"), timeout=60)

    def _once(self, name: str, script: str, *arguments: str, host: str) -> None:
        command = ["python3", f"/app/{script}", *arguments]
        self.shop.kubectl.delete("pod", name)
        self.shop.kubectl.apply(shop.app_pod(name, self.shop.worker_image, command, shop.login(host)))

        def is_done() -> bool:
            phase = self._phase(name)
            assert phase != "Failed", self.shop.kubectl("logs", name)
            return phase == "Succeeded"

        wait_until(f"pod {name} to succeed", is_done, timeout=90)

    def _phase(self, name: str) -> str:
        pod = self.shop.kubectl.get("pod", name) or {}
        return str((pod.get("status") or {}).get("phase", ""))


def find_snapshot_class(kubectl: Kubectl) -> str | None:
    """The default VolumeSnapshotClass of the cluster, else any; None if it has none."""
    found = kubectl.list("volumesnapshotclasses.snapshot.storage.k8s.io")
    by_default = [one for one in found if (one["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true"]
    return next((str(one["metadata"]["name"]) for one in [*by_default, *found]), None)


def resources(image: str, snapshot_class: str | None = None) -> list[Manifest]:
    """The three resources a user would write for this shop."""
    signal = {"name": "connections", "type": "Connections", "connections": {"utilizationPercent": UTILIZATION_PERCENT}}
    autoscaling = {"minReplicas": 1, "maxReplicas": 3, "signals": [signal]}
    parameters = {
        "max_connections": str(MAX_CONNECTIONS),
        "superuser_reserved_connections": str(SUPERUSER_RESERVED),
        "reserved_connections": str(RESERVED),
        "shared_buffers": "256MB",
    }
    postgresql = {"parameters": parameters}
    provisioning: Manifest = {"method": "Auto", "maxSlotWAL": "4Gi"}
    if snapshot_class is not None:
        provisioning["snapshots"] = {"className": snapshot_class}
    objective = {"targetLag": f"{TARGET_LAG_SECONDS}s", "drainWithin": "60s"}
    return [
        shop.database_guard(),
        shop.replica_set(image, autoscaling=autoscaling, postgresql=postgresql, provisioning=provisioning),
        shop.worker_pool(WORKERS, objective=objective),
    ]
