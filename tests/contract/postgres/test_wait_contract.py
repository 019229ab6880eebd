"""What every implementation of `PrimaryLink.waits` promises."""

from headroom.model.waits import WaitSample
from tests.contract.postgres.worlds import World
from tests.postgres_server import APPLICATION, MONITOR

LOCK = "Lock:transactionid"
SECRET = "top secret"


async def test_an_idle_role_waits_for_nothing(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    world.open_session(on_replica=False)
    assert await link.waits(APPLICATION.username) == WaitSample()


async def test_sessions_that_wait_for_a_row_are_counted_and_the_holder_is_named(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    world.hold_row(SECRET, waiters=3)
    samples: list[WaitSample] = []

    async def are_waiting() -> bool:
        samples.append(await link.waits(APPLICATION.username))
        return dict(samples[-1].events).get(LOCK) == 3 and any(sample.blocker for sample in samples)

    await world.eventually(are_waiting)
    events = dict(samples[-1].events)
    assert events == {LOCK: 3, "Client:ClientRead": 1}, "all that wait for one row are one cause"
    blocker = next(sample.blocker for sample in samples if sample.blocker is not None)
    assert blocker.statement == "UPDATE accounts SET note = ? WHERE id = ?"
    assert blocker.is_idle
    assert blocker.waiters >= 1
    assert not any(SECRET in str(sample) for sample in samples)


async def test_another_role_and_our_own_sessions_are_left_out(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    world.hold_row(SECRET, waiters=1)
    assert await link.waits("somebody-else") == WaitSample()
    assert await link.waits(MONITOR.username) == WaitSample()


async def test_without_a_role_everybody_in_the_database_is_counted(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    world.hold_row(SECRET, waiters=1)

    async def are_counted() -> bool:
        events = dict((await link.waits(None)).events)
        return events.get(LOCK) == 1 and events.get("Client:ClientRead") == 1

    await world.eventually(are_counted)


async def test_a_login_without_pg_monitor_sees_nothing(world: World) -> None:
    world.revoke("pg_monitor")
    link = await world.postgres.open_primary(world.target())
    world.hold_row(SECRET, waiters=1)
    assert await link.waits(APPLICATION.username) == WaitSample()
