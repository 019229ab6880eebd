"""The pools of the workers' benchmark: their objects, when their targets were scaled, and quantiles of histograms."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from e2e.demo.timeline import parse_time
from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest

Buckets = Mapping[float, float]
QUIET = {"scaleDown": {"stabilizationWindow": "5s", "maxStepPercent": 100}}


@dataclass(slots=True)
class ScaleWatch:
    """When each Deployment's `spec.replicas` last rose, in wall time as the watch brought it."""

    raised: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, event: Manifest) -> None:
        """One event of the watch."""
        now, body = time.time(), event.get("object", event)
        name, count = body["metadata"]["name"], int(body["spec"].get("replicas", 1))
        with self._lock:
            if count > self.counts.get(name, count):
                self.raised[name] = now
            self.counts[name] = count

    def all_at(self, count: int, names: Sequence[str]) -> bool:
        """Whether all of these Deployments have this count."""
        with self._lock:
            apart = [name for name in names if self.counts.get(name) != count]
        assert not apart, f"{len(apart)} of {len(names)} Deployments are not at {count}"
        return True


def unscheduled(name: str, image: str) -> Manifest:
    """A Deployment at 0 whose pods no scheduler takes, so that they cost nothing."""
    deployment = objects.app_deployment(name, image, ["sleep", "infinity"], {})
    deployment["spec"]["replicas"] = 0
    deployment["spec"]["template"]["spec"]["schedulerName"] = "nobody"
    return deployment


def pool_of(queue: str, **spec: object) -> Manifest:
    """A pool of the queue of its name, from no worker up to two."""
    postgres = {"preset": "procrastinate", "queues": [queue]}
    settings = {
        "minWorkers": 0,
        "maxWorkers": 2,
        "behavior": QUIET,
        "connectionsPerWorker": 1,
        "queue": {"type": "Postgres", "postgres": postgres},
    }
    return objects.worker_pool(queue, **{**settings, **spec})


def start_seconds(pod: Manifest) -> float:
    """From the creation of a pod to its readiness."""
    ready = next(entry for entry in pod["status"]["conditions"] if entry["type"] == "Ready")
    return parse_time(ready["lastTransitionTime"]) - parse_time(pod["metadata"]["creationTimestamp"])


def is_true(body: Manifest, kind: str) -> bool:
    """Whether a condition of an object is True."""
    conditions = (body.get("status") or {}).get("conditions") or ()
    return any(entry["type"] == kind and entry["status"] == "True" for entry in conditions)


def quantile_of(before: Buckets, after: Buckets, share: float) -> float:
    """A quantile of what a histogram counted in between, by the line within its bucket; 0 if it counted nothing."""
    counts = {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}
    wanted = share * max(counts.values(), default=0.0)
    below, low = 0.0, 0.0
    for bound, count in counts.items():
        if count >= wanted > 0:
            return low if bound == float("inf") else low + (bound - low) * (wanted - below) / max(count - below, 1.0)
        below, low = count, bound
    return 0.0
