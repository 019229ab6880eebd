"""Which event of the watches brings whose pass forward."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.adapters.inmemory.telemetry import MemoryTelemetry
from headroom.ports.kube import (
    CLAIM,
    DATABASE_GUARD,
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    OUR_KINDS,
    REPLICA_SET,
    SET_CHILDREN,
    STATEFUL_SET,
    WORKER_POOL,
    Kind,
    Manifest,
    ObjectRef,
)
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.servers import Servers
from headroom.reconcilers.wakes import READY_AT_MOST_EVERY_SECONDS, Wakes

SET = "headroom.dev/replica-set"


@dataclass
class Idle:
    """A reconciler of which only the end is of interest."""

    forgotten: list[str] = field(default_factory=list)

    async def reconcile(self, body: Manifest) -> timedelta:
        return timedelta(seconds=60)

    async def teardown(self, body: Manifest) -> timedelta | None:
        return None

    async def forget(self, uid: str) -> None:
        self.forgotten.append(uid)


@dataclass
class Noting(LevelLoops):
    """Loops that note whom they were asked to wake and to end."""

    woken: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def wake(self, ref: ObjectRef) -> None:
        self.woken.append(f"{ref.kind.name}/{ref.name}")

    def end(self, uid: str) -> None:
        self.ended.append(uid)

    def take(self) -> list[str]:
        woken, self.woken = self.woken, []
        return sorted(woken)


@pytest.fixture
def clock() -> MemoryClock:
    return MemoryClock()


@pytest.fixture
def loops(clock: MemoryClock) -> Noting:
    kube = MemoryKube()
    reconcilers = {kind: Idle() for kind in OUR_KINDS}
    return Noting(reconcilers, kube, MemoryCache(kube.store), clock, MemoryTelemetry(), Servers(clock))


@pytest.fixture
def wakes(loops: Noting) -> Wakes:
    return Wakes(loops)


def make(kind: Kind, name: str, *, namespace: str = "shop", **parts: Any) -> Manifest:
    metadata = {"name": name, "namespace": namespace, "uid": f"{kind.name}-{name}", **parts.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, **parts}


def pool(name: str, target: str, *, kind: str = "Deployment", version: str = "apps/v1", **metadata: Any) -> Manifest:
    ref = {"apiVersion": version, "kind": kind, "name": target}
    return make(WORKER_POOL, name, metadata={"generation": 1, **metadata}, spec={"workers": {"targetRef": ref}})


def workload(name: str, replicas: int, ready: int, *, kind: Kind = DEPLOYMENT, **metadata: Any) -> Manifest:
    return make(kind, name, metadata=metadata, spec={"replicas": replicas}, status={"readyReplicas": ready})


def autoscaler(target: str) -> Manifest:
    ref = {"apiVersion": "apps/v1beta2", "kind": "Deployment", "name": target}
    return make(HORIZONTAL_POD_AUTOSCALER, "hpa", spec={"scaleTargetRef": ref})


class TestOurOwn:
    @pytest.mark.parametrize("kind", OUR_KINDS)
    async def test_an_edit_wakes_and_the_echo_of_a_status_does_not(
        self, wakes: Wakes, loops: Noting, kind: Kind
    ) -> None:
        body = make(kind, "a", metadata={"generation": 1}, spec={})
        await wakes.hear(kind, body)
        assert loops.take() == [f"{kind.name}/a"]
        await wakes.hear(kind, {**body, "status": {"conditions": []}})
        assert loops.take() == []
        asked = [{"headroom.dev/abandon": "true"}, {"headroom.dev/accept-system-identifier": "7"}]
        for change in ({"generation": 2}, *({"annotations": notes} for notes in asked)):
            await wakes.hear(kind, {**body, "metadata": {**body["metadata"], **change}})
            assert loops.take() == [f"{kind.name}/a"]

    @pytest.mark.parametrize("kind", OUR_KINDS)
    async def test_labels_and_annotations_that_no_pass_reads_wake_nobody_and_are_not_kept(
        self, wakes: Wakes, loops: Noting, kind: Kind
    ) -> None:
        body = make(kind, "a", metadata={"generation": 1}, spec={})
        await wakes.hear(kind, body)
        loops.take()
        for number in range(100):
            parts = {"labels": {"a": str(number)}, "annotations": {f"a{number}": "x" * 100_000}}
            await wakes.hear(kind, {**body, "metadata": {**body["metadata"], **parts}})
        assert loops.take() == []
        long = {"headroom.dev/abandon": "x" * 200_000}
        await wakes.hear(kind, {**body, "metadata": {**body["metadata"], "annotations": long}})
        assert len(repr(wakes._known)) < 1000

    async def test_a_deletion_ends_the_loop(self, wakes: Wakes, loops: Noting) -> None:
        body = make(REPLICA_SET, "a", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
        await wakes.hear(REPLICA_SET, body)
        assert (loops.ended, loops.take()) == (["ReplicaSet-a"], [])

    async def test_what_is_gone_is_forgotten(self, wakes: Wakes, loops: Noting) -> None:
        body = make(DATABASE_GUARD, "a", metadata={"generation": 1})
        await wakes.hear(DATABASE_GUARD, body)
        await wakes.hear_gone(DATABASE_GUARD, body)
        reconciler = loops.reconcilers[DATABASE_GUARD]
        assert isinstance(reconciler, Idle)
        assert reconciler.forgotten == ["DatabaseGuard-a"]
        loops.take()
        await wakes.hear(DATABASE_GUARD, body)
        assert loops.take() == ["DatabaseGuard/a"], "as if it had never been seen"


@pytest.mark.parametrize("kind", SET_CHILDREN)
async def test_each_event_of_a_child_wakes_its_set(wakes: Wakes, loops: Noting, kind: Kind) -> None:
    child = make(kind, "store-1", metadata={"labels": {SET: "store"}})
    await wakes.hear(kind, child)
    await wakes.hear(kind, child)
    await wakes.hear(kind, child, is_gone=True)
    assert loops.take() == ["ReplicaSet/store"] * 3


async def test_a_child_without_a_label_wakes_nobody(wakes: Wakes, loops: Noting) -> None:
    await wakes.hear(CLAIM, make(CLAIM, "a"))
    assert loops.take() == []


class TestTargets:
    async def test_a_count_wakes_the_pools_of_the_target(self, wakes: Wakes, loops: Noting) -> None:
        for body in (pool("mail", "mailer"), pool("print", "printer"), pool("rival", "mailer", version="apps/v1beta1")):
            await wakes.hear(WORKER_POOL, body)
        loops.take()
        await wakes.hear(DEPLOYMENT, workload("mailer", 2, 2))
        assert loops.take() == ["WorkerPool/mail", "WorkerPool/rival"]
        await wakes.hear(DEPLOYMENT, workload("mailer", 2, 2))
        assert loops.take() == []
        await wakes.hear(DEPLOYMENT, workload("mailer", 3, 2))
        assert loops.take() == ["WorkerPool/mail", "WorkerPool/rival"]

    async def test_ready_workers_wake_once_a_second_and_a_foreign_count_always(
        self, wakes: Wakes, loops: Noting, clock: MemoryClock
    ) -> None:
        await wakes.hear(WORKER_POOL, pool("mail", "mailer"))
        await wakes.hear(DEPLOYMENT, workload("mailer", 9, 0))
        loops.take()
        for ready in (1, 2, 3):
            await wakes.hear(DEPLOYMENT, workload("mailer", 9, ready))
        assert loops.take() == ["WorkerPool/mail"]
        await wakes.hear(DEPLOYMENT, workload("mailer", 8, 3))
        assert loops.take() == ["WorkerPool/mail"]
        await clock.advance(READY_AT_MOST_EVERY_SECONDS)
        await wakes.hear(DEPLOYMENT, workload("mailer", 8, 4))
        assert loops.take() == ["WorkerPool/mail"]

    async def test_a_target_that_goes_or_comes_wakes(self, wakes: Wakes, loops: Noting) -> None:
        await wakes.hear(WORKER_POOL, pool("mail", "mailer", kind="StatefulSet"))
        body = workload("mailer", 1, 1, kind=STATEFUL_SET)
        loops.take()
        await wakes.hear(STATEFUL_SET, body)
        await wakes.hear(STATEFUL_SET, body, is_gone=True)
        await wakes.hear(STATEFUL_SET, body)
        assert loops.take() == ["WorkerPool/mail"] * 3
        await wakes.hear(DEPLOYMENT, workload("mailer", 1, 1))
        assert loops.take() == [], "of another kind"

    async def test_an_edited_pool_follows_its_new_target(self, wakes: Wakes, loops: Noting) -> None:
        await wakes.hear(WORKER_POOL, pool("mail", "mailer"))
        await wakes.hear(WORKER_POOL, pool("mail", "printer", generation=2))
        loops.take()
        await wakes.hear(DEPLOYMENT, workload("mailer", 1, 1))
        assert loops.take() == []
        await wakes.hear(DEPLOYMENT, workload("printer", 1, 1))
        assert loops.take() == ["WorkerPool/mail"]

    async def test_a_pool_that_is_gone_is_not_woken(self, wakes: Wakes, loops: Noting) -> None:
        await wakes.hear(WORKER_POOL, pool("mail", "mailer"))
        await wakes.hear(WORKER_POOL, pool("mail", "mailer"), is_gone=True)
        loops.take()
        await wakes.hear(DEPLOYMENT, workload("mailer", 1, 1))
        assert loops.take() == []

    async def test_an_autoscaler_wakes_the_pools_of_its_old_and_its_new_target(
        self, wakes: Wakes, loops: Noting
    ) -> None:
        for body in (pool("mail", "mailer"), pool("print", "printer")):
            await wakes.hear(WORKER_POOL, body)
        loops.take()
        await wakes.hear(HORIZONTAL_POD_AUTOSCALER, autoscaler("mailer"))
        assert loops.take() == ["WorkerPool/mail"]
        await wakes.hear(HORIZONTAL_POD_AUTOSCALER, autoscaler("mailer"))
        assert loops.take() == []
        await wakes.hear(HORIZONTAL_POD_AUTOSCALER, autoscaler("printer"))
        assert loops.take() == ["WorkerPool/mail", "WorkerPool/print"]
        await wakes.hear(HORIZONTAL_POD_AUTOSCALER, autoscaler("printer"), is_gone=True)
        assert set(loops.take()) == {"WorkerPool/print"}
