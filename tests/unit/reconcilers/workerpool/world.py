"""A WorkerPool whose passes are made by hand, beside its guard, its queue, and its Deployment with pods that start."""

from datetime import timedelta
from typing import Any

from headroom.errors import Conflict
from headroom.ports.kube import DEPLOYMENT, POD, WORKER_POOL, Manifest, ObjectRef
from headroom.reconcilers.workerpool import WorkerPoolReconciler
from tests.controllers import is_running
from tests.manifests import NAMESPACE, make_deployment, make_pool
from tests.unit.policy.databaseguard.make import make_demand
from tests.unit.reconcilers.stepped import GUARD, SteppedWorld

TARGET = ObjectRef(DEPLOYMENT, NAMESPACE, "mailer")
POOL = ObjectRef(WORKER_POOL, NAMESPACE, "mail")
PLENTY = 1000
"""Connections for workers, of which no pool here can be short."""


class PoolWorld(SteppedWorld):
    """One pool and all that it needs; `advance` makes the passes that fall due."""

    def __init__(self, spec: dict[str, Any] | None = None, *, replicas: int = 2, start_seconds: float = 3.0) -> None:
        super().__init__()
        self.conflicts = 0
        self.deployments.start_seconds = start_seconds
        self.set_budget(PLENTY)
        self.add_guard(connections={"workerSharePercent": 100})
        self.seed(make_deployment(TARGET.name, replicas))
        self.uid = self.cluster.seed(make_pool(POOL.name, TARGET.name, **(spec or {})))["metadata"]["uid"]
        self.deployments.play()

    @property
    def reconciler(self) -> WorkerPoolReconciler:
        found = self.loops.reconcilers[WORKER_POOL]
        assert isinstance(found, WorkerPoolReconciler)
        return found

    def lose_guard(self) -> None:
        """The guard makes no pass any more, and nobody knows what it found."""
        self.stop_guards()
        view = self.servers.view(GUARD)
        if view is not None:
            self.servers.remove(GUARD, view.guard_uid)

    def occupy_budget(self, connections: int) -> None:
        """Another pool of the same server, more important than all, holds so many."""
        demand = make_demand("0-other", 0, minimum=connections, running=connections, busy=connections)
        self.servers.post_demand(ObjectRef(WORKER_POOL, NAMESPACE, "other"), GUARD, demand)

    def work(self, *, seconds: float, rate: float, service_rate: float) -> None:
        """Let jobs arrive and end for a while, in the numbers only."""
        told = self.probes.numbers
        arrived = round(rate * seconds)
        done = min(told.backlog + arrived, round(self.running() * service_rate * seconds))
        self.queue(
            arrived=(told.arrived or 0) + arrived,
            ended=(told.ended or 0) + done,
            backlog=max(0, told.backlog + arrived - done),
            in_flight=min(self.running(), round(done / seconds / service_rate)) if seconds else 0,
        )

    def running(self) -> int:
        return sum(map(is_running, self.children(POD)))

    def scale_by_hand(self, count: int) -> None:
        self.cluster.edit(TARGET, lambda item: item["spec"].update(replicas=count), manager="kubectl-scale")

    async def make_pass(self) -> timedelta:
        """One pass, with the object as a watch would show it; a conflict is tried again as the loop does."""
        await self.follow_guards()
        for _ in range(10):
            try:
                return await self.reconciler.reconcile(self.pool())
            except Conflict:
                self.conflicts += 1
        raise AssertionError("ten conflicts in a row")

    async def advance(self, seconds: float, *, rate: float | None = None, service_rate: float = 1.0) -> None:
        """Make passes as they fall due until the clock has moved so far; the cluster follows each."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            pause = (await self.make_pass()).total_seconds()
            step = min(pause, end - self.clock.monotonic())
            await self.clock.advance(max(step, 0.01))
            if rate is not None:
                self.work(seconds=step, rate=rate, service_rate=service_rate)
            self.deployments.play()

    def pool(self) -> Manifest:
        return self.read(POOL)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.pool()["status"]
        return status

    def condition(self, name: str) -> tuple[str, str]:
        entry = self.find_condition(POOL, name)
        return entry["status"], entry["reason"]

    def message(self, name: str) -> str:
        return str(self.find_condition(POOL, name)["message"])

    def asked_for(self) -> int:
        return int(self.read(TARGET)["spec"]["replicas"])

    def scale_writes(self) -> int:
        return sum(verb == "set_scale" for verb, _ in self.kube.writes)
