"""KEDA with the HPA behind it, by their published algorithms: what most people use today."""

import math
from dataclasses import dataclass, field

from headroom.simulation.world import World


@dataclass(slots=True)
class Keda:
    """Implements `Scaler`: KEDA's postgresql scaler on waiting and running jobs, and the HPA on its number.

    Source for KEDA: KEDA 2.20, "Scaling Deployments". A poll decides between 0 and 1 with a cooldown of 300 s, the HPA
    decides on all else. Source for the HPA: Kubernetes, "Horizontal Pod Autoscaling". It syncs every 15 s with a
    tolerance of 10 %. It grows by the larger of 100 % and 4 pods in 15 s, and shrinks to the highest recommendation of
    300 s. `per_replica` is the target average of the metric.
    """

    per_replica: float
    min_workers: int
    max_workers: int
    poll_seconds: float = 5.0
    sync_seconds: float = 15.0
    tolerance: float = 0.1
    window_seconds: float = 300.0
    _wanted: list[tuple[float, int]] = field(default_factory=list)
    _rises: list[tuple[float, int]] = field(default_factory=list)
    _active_at: float = 0.0

    def start(self, world: World) -> None:
        """See `Scaler.start`."""
        world.call_at(0.0, lambda: self._poll(world))
        world.call_at(self.sync_seconds / 2, lambda: self._sync(world))

    def _poll(self, world: World) -> None:
        if self._metric(world) > 0:
            self._active_at = world.now
            if world.deployment.replicas == 0:
                self._scale(world, max(1, self.min_workers))
        elif self.min_workers == 0 and world.now - self._active_at >= self.window_seconds:
            self._scale(world, 0)
        world.call_at(world.now + self.poll_seconds, lambda: self._poll(world))

    def _sync(self, world: World) -> None:
        present = world.deployment.replicas
        # As the HPA: what it finds at first counts as its own recommendation.
        self._wanted = self._wanted or [(world.now, present)]
        if present > 0:
            self._scale(world, self._decide(world.now, present, self._metric(world)))
        world.call_at(world.now + self.sync_seconds, lambda: self._sync(world))

    def _decide(self, now: float, present: int, metric: float) -> int:
        ratio = metric / (self.per_replica * present)
        wanted = present if abs(ratio - 1) <= self.tolerance else math.ceil(metric / self.per_replica)
        self._wanted = [(at, count) for at, count in self._wanted if now - at < self.window_seconds]
        self._wanted.append((now, wanted))
        # Scale-down takes the highest recommendation of the window, scale-up has no window.
        wanted = max(wanted, min(present, max(count for _, count in self._wanted)))
        self._rises = [(at, rise) for at, rise in self._rises if now - at < self.sync_seconds]
        before = present - sum(rise for _, rise in self._rises)
        wanted = min(wanted, max(2 * before, before + 4))
        return min(max(wanted, self.min_workers, 1), self.max_workers)

    def _metric(self, world: World) -> float:
        return len(world.line) + world.in_flight

    def _scale(self, world: World, count: int) -> None:
        present = world.deployment.replicas
        if count > present:
            self._rises.append((world.now, count - present))
        world.deployment.scale(count)
