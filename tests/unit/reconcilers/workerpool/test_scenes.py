"""What somebody on call reads of a pool in trouble: the first screen names the cause, and no condition is false."""

import re

from headroom.adapters.inmemory.postgres_server import MemoryRole
from headroom.errors import SignalUnavailable
from headroom.ports.kube import POD
from headroom.reasons import Reason
from tests.unit.reconcilers.workerpool.cases import HELD, on_call_h_the_connections_are_short
from tests.unit.reconcilers.workerpool.test_bad_input import BoundedWorld
from tests.unit.reconcilers.workerpool.world import PoolWorld


async def test_a_lock_on_the_queues_table_is_the_reason_and_no_index_is_asked_for() -> None:
    world = PoolWorld(replicas=4)
    await world.advance(30, rate=1)
    world.probes.error = SignalUnavailable(HELD, reason=Reason.QUEUE_LOCKED)
    await world.advance(20)
    assert world.condition("Ready") == ("False", Reason.QUEUE_LOCKED)
    assert world.message("Ready").endswith(HELD)
    assert world.condition("KeepingUp") == ("Unknown", Reason.QUEUE_LOCKED)
    assert world.asked_for() == 4


async def test_a_wrong_password_of_the_guard_is_the_guards_and_said_so() -> None:
    world = PoolWorld()
    await world.advance(30, rate=1)
    world.primary.roles["monitor"] = MemoryRole("another")
    world.set_secret("store-monitor", username="monitor", password="wrong")
    await world.advance(90)
    assert world.condition("Ready") == ("False", Reason.GUARD_NOT_READY)
    assert "dbg/store cannot use its server" in world.message("Ready")
    moment = r"2026-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(rf"\(Secret store-monitor\), changed {moment}, refused since {moment}$", world.message("Ready"))
    assert world.condition("SignalAvailable") == ("False", Reason.GUARD_NOT_READY)


async def test_an_image_that_does_not_exist_is_the_reason_of_the_first_screen() -> None:
    world = BoundedWorld(replicas=4)
    await world.advance(10)
    waiting = {"reason": "ErrImagePull", "message": "localhost/commands:2.7"}
    world.deployments.start_seconds = 1e6
    world.queue(lag_seconds=100.0, backlog=600, late=600, in_flight=4)
    for _ in range(15):
        await world.advance(1)
        world.stop({"phase": "Pending", "containerStatuses": [{"state": {"waiting": waiting}}]})
    assert world.condition("Ready") == ("True", Reason.WORKERS_NOT_STARTING)
    running, asked = world.running(), world.asked_for()
    assert running < asked
    assert world.message("Ready").startswith(f"{running} of {asked} workers are ready; pod mailer-")
    assert "ErrImagePull localhost/commands:2.7; correct the image, or kubectl rollout undo" in world.message("Ready")
    assert len(world.names(POD)) == asked


async def test_a_connection_budget_says_what_the_arrivals_need_and_what_to_raise() -> None:
    world = PoolWorld({"connectionsPerWorker": 4, "maxWorkers": 100, "objective": {"targetLag": "10s"}})
    world.set_budget(19)
    arrived = ended = 0
    for second in range(60):
        arrived, ended = arrived + 12, ended + world.running()
        backlog = arrived - ended
        world.queue(arrived=arrived, ended=ended, backlog=backlog, lag_seconds=0.6 * second, in_flight=world.running())
        await world.advance(1)
    assert world.asked_for() == 4
    assert world.condition("ScalingLimited") == ("True", Reason.CONNECTION_BUDGET)
    message = world.message("ScalingLimited")
    assert "the database has 19 connections for workers; other pools hold 0, and one worker takes 4" in message
    assert re.search(r"what arrives alone needs 1[0-4] workers = [45]\d connections: ", message)
    assert "raise max_connections of the server, or connections.workerSharePercent of the guard" in message


async def test_workers_that_hold_fewer_connections_than_declared_are_told() -> None:
    world = await on_call_h_the_connections_are_short()
    assert world.condition("ScalingLimited") == ("True", Reason.CONNECTION_BUDGET)
    assert world.message("ScalingLimited").endswith("; workers were seen to hold 3 each, and connectionsPerWorker is 4")
