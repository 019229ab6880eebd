"""Calls to the API server in the cases that are not the usual one, and a slow API server beside a calm database."""

import asyncio
from collections import Counter

import pytest

from headroom.adapters.inmemory.kube_faults import Latency
from headroom.adapters.inmemory.kube_kinds import WORKLOAD_SCALE
from headroom.ports.kube import SECRET, Kind
from tests.manifests import make
from tests.memory_world import LOGINS
from tests.unit.composition.scenes import at_work
from tests.unit.world import GUARD, POOL, SET, World

pytestmark = pytest.mark.looptime(start=0)
ROLLOUT = Kind("argoproj.io/v1alpha1", "Rollout", "rollouts")


async def count_calls(world: World, seconds: float) -> Counter[tuple[str, str]]:
    calls = world.process.client.calls
    calls.clear()
    await asyncio.sleep(seconds)
    return Counter((verb, ref.kind.name) for verb, ref in calls)


async def test_a_calm_pool_with_a_target_of_any_kind_reads_its_scale_and_no_pods() -> None:
    async with World() as world:
        world.kube.kinds.register(ROLLOUT, scale=WORKLOAD_SCALE)
        world.add_guard()
        world.add_pool(minWorkers=0, replicas=0)
        world.cluster.seed(make(ROLLOUT, "mail", spec={"replicas": 0, "selector": {"matchLabels": {"app": "mail"}}}))
        target = {"apiVersion": ROLLOUT.api_version, "kind": ROLLOUT.name, "name": "mail"}
        world.edit_spec(POOL, workers={"targetRef": target})
        await world.start()
        await asyncio.sleep(60)
        calls = await count_calls(world, 60)
        assert world.condition(POOL, "Ready")[0] == "True"
        assert set(calls) == {("get_scale", "Rollout"), ("get", "Secret"), ("resolve", "")}


async def test_a_secret_that_is_missing_is_asked_for_every_two_seconds() -> None:
    async with World() as world:
        world.add_guard(connection={"replicationSecretRef": {"name": "missing"}})
        await world.start()
        await asyncio.sleep(60)
        calls = await count_calls(world, 60)
        assert world.condition(GUARD, "Ready") == ("False", "SecretNotFound")
        assert calls["get", "Secret"] <= 3 * 60 / 2, "the three logins of a guard are read together"
        world.set_secret("missing", username="replication", password=LOGINS["replication"])
        await asyncio.sleep(8)
        assert world.condition(GUARD, "Ready") == ("True", "Connected")


async def test_an_api_server_that_is_slow_with_secrets_turns_no_condition() -> None:
    async with at_work(50, serving=1) as world:
        slow = Latency(request=9.0)
        world.process.client.faults.latency = lambda _, ref: slow if ref.kind == SECRET else Latency()
        turned, ages = world.follow_verdicts(), []
        for _ in range(200):
            await asyncio.sleep(0.5)
            ages.append(world.clock.monotonic() - world.view().observed_at)
        assert not turned
        assert max(ages) < 2.0
        assert {world.condition(ref, "Ready")[0] for ref in (GUARD, SET, POOL)} == {"True"}
