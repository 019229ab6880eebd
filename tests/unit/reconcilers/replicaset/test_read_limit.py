"""A set whose replicas share a limit: it grows by two, says so, and stops; one whose replicas do not grows on."""

from collections import Counter
from collections.abc import Callable

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.ports.kube import POD
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.metrics import READS
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import NAME, World

SCALING = {
    "minReplicas": 2,
    "maxReplicas": 6,
    "signals": [{"name": "conns", "type": "Connections", "connections": {"utilizationPercent": 70}}],
    "behavior": {"scaleDown": {"stabilizationWindow": "20s"}},
}
SAID = (
    "reads stay at 510/s: 500/s on 2, 505/s on 3, 510/s on 4; the replicas share a limit: look at their disk, "
    "the CPU of their nodes and the network"
)
STEP_SECONDS = 3
RATE_OF_ONE = 250
LABELS = {"namespace": NAMESPACE, "name": NAME}


def share(count: int) -> int:
    return 500 + 5 * (count - 2)


class Clients:
    """Clients that open a connection now and then, up to `most` of what the replicas allow, and all read at once."""

    def __init__(self, world: World, reads: Callable[[int], float]) -> None:
        self.world, self.reads = world, reads
        self.used, self.most = 0.0, 0.85
        self.read: Counter[str] = Counter()
        self.is_counted = True

    async def run(self, seconds: int) -> None:
        for _ in range(0, seconds, STEP_SECONDS):
            names, before = self.world.serving(), self.read.keys()
            self.used = min(self.used + 0.001 * STEP_SECONDS if names == list(before) else 0.70, self.most)
            each = round(1000 * STEP_SECONDS * self.reads(len(names)) / len(names))
            self.read = Counter({name: self.read[name] + each for name in names})
            for name in names:
                server = self.world.replica(name)
                server.sessions = [MemorySession(state="active")] * round(self.used * server.usable_connections)
                server.transactions = self.read[name] // 1000 if self.is_counted else None
            await self.world.run(STEP_SECONDS, step=STEP_SECONDS)


async def begin(reads: Callable[[int], float]) -> tuple[World, Clients]:
    world = World()
    world.add_set(replicas=2, standbys=0, autoscaling=SCALING)
    await world.run(20)
    return world, Clients(world, reads)


async def test_replicas_that_share_a_limit_grow_by_two_and_are_named() -> None:
    world, clients = await begin(share)
    await clients.run(300)
    assert world.status["desiredReplicas"] == len(world.serving()) == 4
    limited = world.condition("ScalingLimited")
    assert (limited["status"], limited["reason"]) == ("True", Reason.NO_GAIN_FROM_MORE_REPLICAS)
    assert limited["message"] == SAID
    assert world.status["reason"] == f"ScalingLimited:{Reason.NO_GAIN_FROM_MORE_REPLICAS}"
    assert world.status["readLimit"]["measured"] == [
        {"replicas": 2, "readsPerSecond": 500},
        {"replicas": 3, "readsPerSecond": 505},
        {"replicas": 4, "readsPerSecond": 510},
    ]
    assert len(world.children(POD)) == 4


async def test_replicas_that_share_nothing_grow_as_far_as_they_may() -> None:
    world, clients = await begin(lambda count: RATE_OF_ONE * count)
    await clients.run(360)
    assert len(world.serving()) == 6
    assert "readLimit" not in world.status
    assert world.condition("ScalingLimited")["reason"] in (Reason.AT_MAXIMUM, Reason.AS_EXPECTED)


async def test_what_stopped_growth_is_known_to_the_next_leader_and_to_the_one_after() -> None:
    world, clients = await begin(share)
    await clients.run(270)
    before, limit = world.condition("ScalingLimited"), world.status["readLimit"]
    assert before["reason"] == Reason.NO_GAIN_FROM_MORE_REPLICAS
    for _ in range(2):
        world.restart()
        await clients.run(75)
        assert world.status["desiredReplicas"] == 4
        assert world.condition("ScalingLimited")["lastTransitionTime"] == before["lastTransitionTime"]
        assert world.condition("ScalingLimited")["message"] == SAID
        assert world.status["readLimit"] == limit


async def test_it_grows_on_for_connections_that_run_out_and_is_still_named() -> None:
    world, clients = await begin(share)
    await clients.run(270)
    assert len(world.serving()) == 4
    clients.most = clients.used = 0.95
    await clients.run(20)
    assert len(world.serving()) > 4
    assert world.condition("ScalingLimited")["message"].startswith("reads stay at 510/s: ")


async def test_it_ends_when_the_load_goes() -> None:
    world, clients = await begin(share)
    await clients.run(270)
    clients.most = 0.0
    await clients.run(60)
    assert len(world.serving()) < 4
    assert world.condition("ScalingLimited")["status"] == "False"
    assert "readLimit" not in world.status


async def test_without_a_rate_the_set_grows_as_before() -> None:
    """As on PostgreSQL 14."""
    world, clients = await begin(share)
    clients.is_counted = False
    await clients.run(360)
    assert len(world.serving()) == 6
    assert "readLimit" not in world.status


async def test_the_rate_is_published_while_it_is_known() -> None:
    world, clients = await begin(lambda count: RATE_OF_ONE * count)
    await clients.run(30)
    assert world.telemetry.value(READS, **LABELS) == pytest.approx(2 * RATE_OF_ONE, rel=0.02)
    world.replica(world.serving()[0]).transactions = None
    await world.run(3)
    assert world.telemetry.value(READS, **LABELS) is None
