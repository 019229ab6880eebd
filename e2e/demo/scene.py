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
from e2e.lab.kubectl import Manifest, Stream, follow_logs, watch
from e2e.lab.opening import Shop
from e2e.lab.release import Release
from e2e.lab.waiting import wait_until

SET_PODS = "headroom.dev/replica-set=store"
WORKERS = "commands"
Say = Callable[[str], None]


@dataclass(slots=True)
class Scene:
    """Everything the demo runs on."""

    release: Release
    shop: Shop
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
        self.shop.kubectl.apply(*resources(self.shop.postgres_image))
        self.shop.wait_ready("dbg", shop.GUARD)
        say("replicas: the first two are seeded by base backup")
        self.shop.wait_counts(serving=1, standbys=1, timeout=300)
        self.shop.wait_ready("dbrs", "store")
        self.shop.wait_ready("wp", WORKERS)

    def begin(self, timeline: Timeline) -> None:
        """Start watching, then both loads."""
        space = self.shop.kubectl.namespace
        self.streams += [
            watch(space, "pods", timeline.on_pod, SET_PODS),
            watch(space, "deployments", timeline.on_workers, f"app={WORKERS}"),
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

    def _workers(self) -> Manifest:
        command = ("python3", "/app/worker.py", "--queue", WORKERS)
        variables = {**shop.login(shop.PRIMARY), "CONCURRENCY": "1"}
        deployment = shop.app_deployment(WORKERS, self.shop.worker_image, command, variables)
        deployment["metadata"]["labels"] = {"app": WORKERS}
        return deployment

    def _run(self, name: str, script: str, profile: Profile, *, host: str, user: str) -> None:
        command = ["python3", f"/app/{script}", "--profile", json.dumps(profile), "--duration", str(LONGEST)]
        if script == "produce.py":
            command += ["--queue", WORKERS, "--service-seconds", str(SERVICE_SECONDS)]
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


def resources(image: str) -> list[Manifest]:
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
    objective = {"targetLag": f"{TARGET_LAG_SECONDS}s", "drainWithin": "60s"}
    return [
        shop.database_guard(),
        shop.replica_set(image, autoscaling=autoscaling, postgresql=postgresql),
        shop.worker_pool(WORKERS, objective=objective),
    ]
