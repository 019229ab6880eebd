"""A pool whose queue library notifies takes its next sample at once, and says so if it cannot be notified."""

import asyncio

from headroom.adapters.inmemory.clock import settle
from headroom.adapters.postgres.queues.procrastinate import ProcrastinateProbe
from headroom.model.queue import StuckItem, WaitingItem
from headroom.ports.kube import ObjectRef
from headroom.reconcilers.notifications import CONNECTED_SECONDS
from tests.unit.reconcilers.workerpool.world import POOL, PoolWorld

CHANNEL = "procrastinate_queue_v1#mails"


def record_wakes(world: PoolWorld) -> list[ObjectRef]:
    woken: list[ObjectRef] = []
    world.servers.wake = woken.append
    return woken


def test_the_channels_are_those_of_the_library() -> None:
    runner = None
    assert ProcrastinateProbe(runner, ["mails", "Ä b"]).channels == (CHANNEL, "procrastinate_queue_v1#Ä b")  # type: ignore[arg-type]
    assert ProcrastinateProbe(runner).channels == ("procrastinate_any_queue_v1",)  # type: ignore[arg-type]


async def test_a_notification_of_the_library_starts_the_next_pass() -> None:
    world = PoolWorld()
    world.probes.channels = (CHANNEL,)
    await world.advance(6.0)
    woken = record_wakes(world)
    world.primary.notify(CHANNEL)
    await settle()
    assert woken == [POOL]
    asked = len(world.probes.questions)
    await world.make_pass()
    assert len(world.probes.questions) == asked + 1, "a pass that was woken takes a sample, due or not"


async def test_a_pool_that_is_gone_is_woken_no_more() -> None:
    world = PoolWorld()
    world.probes.channels = (CHANNEL,)
    await world.advance(6.0)
    woken = record_wakes(world)
    await world.reconciler.forget(world.uid)
    world.primary.notify(CHANNEL)
    await settle()
    assert woken == []


async def test_a_pooler_in_the_way_is_said_and_the_pool_is_polled() -> None:
    world = PoolWorld()
    await world.advance(6.0)
    world.probes.channels = (CHANNEL,)
    world.primary.is_pooler = True
    await world.advance(6.0)
    await asyncio.sleep(2 * CONNECTED_SECONDS)
    await world.advance(6.0)
    assert world.condition("SignalAvailable") == ("True", "AsExpected")
    assert "by polling alone: " in world.message("SignalAvailable")
    assert "is a pooler" in world.message("SignalAvailable")


async def test_what_the_workers_pass_over_is_named_with_what_ends_it() -> None:
    world = PoolWorld()
    await world.advance(6.0)
    held = StuckItem(17, 813)
    for _ in range(5):
        world.queue(blocked=1, blocked_seconds=900.0, stuck=(held,))
        await world.advance(6.0, rate=1.0)
    assert world.condition("KeepingUp") == ("True", "HeadOfLineStuck")
    assert "transaction 813 has locked its row" in world.message("KeepingUp")
    assert "pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_xid = '813'" in world.message("KeepingUp")
    assert world.condition("SignalAvailable") == ("True", "HeadOfLineStuck")


async def test_status_shows_the_queue_without_what_the_workers_pass_over() -> None:
    world = PoolWorld()
    await world.advance(6.0)
    for turn in range(10):
        eldest = (WaitingItem(17, 5000.0), WaitingItem(1000 + turn, 1.0))
        world.queue(lag_seconds=5000.0, leading=(17, 1000 + turn), eldest=eldest)
        await world.advance(6.0, rate=1.0)
    queue = world.pool()["status"]["queue"]
    assert queue["lagSeconds"] <= 1.0
    assert "the workers pass over item 17" in world.message("KeepingUp")
