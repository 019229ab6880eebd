"""A pool whose workers hold long jobs, and the marks on its pods."""

from typing import Any

from headroom.policy.workerpool.victims import DELETION_COST
from headroom.ports.kube import POD
from tests.unit.reconcilers.workerpool.world import PoolWorld

QUICK = {"scaleDown": {"stabilizationWindow": "10s", "maxStepPercent": 50}}
JOB_SECONDS = 60.0


class BusyWorld(PoolWorld):
    """Ten workers of jobs of a minute; the youngest three, which the controller would end first, hold one."""

    def __init__(self, *, grace: int, knows_workers: bool = True, **spec: Any) -> None:
        super().__init__({"behavior": QUICK, **spec}, replicas=0)
        self.deployments.pod_grace_seconds = grace
        self.scale_by_hand(10)
        self.deployments.play()
        self.pods = [pod["metadata"]["name"] for pod in self.children(POD)]
        self.busy = set(self.pods[-3:])
        self.knows_workers = knows_workers
        self.hold(self.busy)

    def hold(self, busy: set[str]) -> None:
        """Jobs are in the hands of these workers."""
        self.busy = busy
        hosts = frozenset(busy) if self.knows_workers else None
        self.queue(in_flight=len(busy), busy_hosts=hosts, job_seconds=JOB_SECONDS, arrived=0, ended=0)

    def costs(self) -> dict[str, str]:
        annotations = {pod["metadata"]["name"]: pod["metadata"].get("annotations") or {} for pod in self.children(POD)}
        return {name: found[DELETION_COST] for name, found in annotations.items() if DELETION_COST in found}

    def alive(self) -> set[str]:
        return set(self.names(POD))
