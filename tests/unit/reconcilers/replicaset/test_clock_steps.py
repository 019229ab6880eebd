"""A wall clock that steps, or differs from the last leader's: nothing is kept for longer, and nothing cut sooner."""

from datetime import timedelta

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.ports.kube import POD
from tests.unit.reconcilers.replicaset.test_lag_readings import made
from tests.unit.reconcilers.replicaset.test_stale_takeover import run_until_gone, stale

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("trouble", ["is_cut_off", "is_paused"])
@pytest.mark.parametrize("standbys", [0, 1])
@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["behind", "ahead"])
async def test_a_leader_whose_clock_differs_ejects_and_says_in_time(
    step: timedelta, standbys: int, trouble: str
) -> None:
    world = await made(replicas=1, standbys=standbys)
    [name] = world.serving()
    setattr(world.replica(name), trouble, True)
    await world.run(6)
    world.clock.jump(step)
    world.restart()
    seconds = 0
    while name in world.serving() and stale(world)[0] != "True" and seconds < 60:
        await world.run(1)
        seconds += 1
    assert seconds <= 10 + 15
    await world.run(15)
    assert (name in world.serving()) is not bool(standbys)


async def test_a_leader_whose_clock_is_behind_counts_no_negative_seconds() -> None:
    world = await made(replicas=1, standbys=0)
    [name] = world.serving()
    world.replica(name).is_cut_off = True
    await world.run(20)
    world.clock.jump(-HOUR)
    world.restart()
    await world.run(20)
    message = world.condition("ReadsMayBeStale")["message"]
    assert stale(world)[0] == "True"
    assert "-" not in message.replace(name, "")


@pytest.mark.parametrize("is_taken_over", [False, True])
async def test_a_clock_that_steps_back_keeps_no_session_on_an_ejected_replica(is_taken_over: bool) -> None:
    world = await made(replicas=1, standbys=1)
    [name] = world.serving()
    world.replica(name).sessions = [MemorySession(state="active") for _ in range(3)]
    world.replica(name).is_paused = True
    await run_until_gone(world, name, 40)
    assert len(world.replica(name).sessions) == 3
    world.clock.jump(-HOUR)
    if is_taken_over:
        world.restart()
    await world.run(10 + 15)
    assert world.replica(name).sessions == []


async def test_one_that_steps_forward_cuts_no_running_query_on_scale_in() -> None:
    world = await made(replicas=2, standbys=0, drain={"timeout": "30m"})
    for name in world.serving():
        world.replica(name).sessions = [MemorySession(state="active") for _ in range(3)]
    world.edit_spec(replicas=1)
    await world.run(10)
    [gone] = [name for name in world.names(POD) if name not in world.serving()]
    world.clock.jump(HOUR)
    await world.run(60, step=1)
    assert len(world.replica(gone).sessions) == 3
    await world.run(30 * 60, step=10)
    assert gone not in world.names(POD)
