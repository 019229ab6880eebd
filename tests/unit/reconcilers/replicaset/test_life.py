"""A set from nothing to serving, scaled, and gone."""

from datetime import timedelta

from headroom.ports.kube import CLAIM, DISRUPTION_BUDGET, POD, SERVICE, Kind
from headroom.reasons import Reason
from tests.unit.reconcilers.replicaset.world import World


async def test_a_new_set_comes_to_serve_with_a_warm_standby() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    assert world.roles() == ["serving", "standby"]
    status = world.status
    assert (status["replicas"], status["standbys"], status["provisioning"]) == (1, 1, 0)
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("WarmPoolReady")["status"] == "True"
    assert len(world.slots()) == len(world.children(CLAIM)) == len(world.children(POD)) == 2
    assert len(world.children(SERVICE)) == len(world.children(DISRUPTION_BUDGET)) == 1


async def test_scaling_up_takes_the_standby_at_once_and_refills_the_pool() -> None:
    world = World()
    world.add_set(replicas=1, standbys=1)
    await world.run(20)
    world.edit_spec(replicas=2)
    await world.one_pass()
    assert world.roles() == ["serving", "serving"]
    assert Reason.ACTIVATED in world.telemetry.reasons("store")
    await world.run(20)
    assert world.roles() == ["serving", "serving", "standby"]
    assert world.status["leadTime"]["warmSeconds"] < 1


async def test_scaling_down_returns_to_the_pool_size() -> None:
    world = World()
    world.add_set(replicas=3, standbys=1)
    await world.run(30)
    assert world.roles().count("serving") == 3
    world.edit_spec(replicas=1)
    await world.run(30)
    assert world.roles() == ["serving", "standby"]
    assert len(world.slots()) == len(world.children(CLAIM)) == 2


async def test_a_calm_set_is_not_written() -> None:
    world = World()
    world.add_set()
    await world.run(60)
    world.kube.writes.clear()
    await world.run(60)
    assert world.kube.writes == []


async def test_what_is_accepted_and_not_acted_on_is_said_and_changes_no_verdict() -> None:
    world = World()
    world.add_set(
        schedules=[{"name": "sale", "cron": "0 16 * * FRI", "duration": "6h", "minReplicas": 2}],
        routing={"rebalance": {"enabled": True, "roles": ["app"]}},
    )
    await world.run(20)
    ready = world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", Reason.AS_EXPECTED)
    assert ready["message"].endswith("; accepted, but not acted on yet: schedules, routing.rebalance.enabled")
    world.edit_spec(mode="Paused")
    await world.run(3)
    assert world.condition("Ready")["message"].endswith("schedules, routing.rebalance.enabled")
    assert world.telemetry.reasons("store").count(Reason.NOT_ACTED_ON) == 2, "once for each generation"


def uids_of(world: World, kind: Kind) -> list[str]:
    return sorted(item["metadata"]["uid"] for item in world.children(kind))


async def test_a_new_configuration_reaches_every_member_on_its_own_volume() -> None:
    world = World()
    world.add_set(replicas=2, standbys=1)
    await world.run(30)
    pods, claims = uids_of(world, POD), uids_of(world, CLAIM)
    least = len(world.serving())
    world.edit_spec(postgresql={"parameters": {"work_mem": "32MB"}})
    for _ in range(60):
        await world.run(2)
        least = min(least, len(world.serving()))
    assert not set(uids_of(world, POD)) & set(pods), "each pod was made again"
    assert uids_of(world, CLAIM) == claims, "nothing was copied"
    assert least == 2, "as many served all the time"


async def test_without_a_standby_what_serves_stays_as_it_is() -> None:
    world = World()
    world.add_set(replicas=2, standbys=0)
    await world.run(30)
    pods = uids_of(world, POD)
    world.edit_spec(postgresql={"parameters": {"work_mem": "32MB"}})
    await world.run(60)
    assert uids_of(world, POD) == pods


async def test_without_standbys_a_change_that_needs_new_pods_says_what_it_waits_for() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    await world.run(20)
    [name] = world.serving()
    world.edit_spec(image="postgres:17.1")
    await world.run(10)
    assert world.serving() == [name]
    assert "set spec.standbys to 1" in world.condition("Ready")["message"]
    world.edit_spec(standbys=1)
    await world.run(40)
    assert name not in world.serving()
    assert "spec.standbys" not in world.condition("Ready")["message"]


async def test_a_member_that_is_nearly_there_is_looked_at_often() -> None:
    world = World()
    world.add_set(replicas=1, standbys=0)
    pauses = []
    for _ in range(100):
        pause = await world.one_pass()
        world.play()
        stages = [member["stage"] for member in world.status.get("members", ())]
        if "CaughtUp" in stages:
            pauses.append(pause)
        if world.roles() == ["serving"]:
            break
        await world.clock.advance(pause.total_seconds() if pause is not None else 0.1)
    assert pauses
    assert all(pause is not None and pause <= timedelta(milliseconds=200) for pause in pauses)
