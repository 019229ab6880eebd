"""Pools in trouble, each played until it says so: the cases of the table of words."""

from collections.abc import Awaitable, Callable
from typing import Any

from headroom.adapters.inmemory.postgres_server import MemoryRole, MemorySession
from headroom.errors import SignalUnavailable
from headroom.model.queue import StuckItem
from headroom.reasons import Reason
from tests.manifests import make_autoscaler
from tests.unit.reconcilers.workerpool.busy import BusyWorld
from tests.unit.reconcilers.workerpool.test_bad_input import BoundedWorld
from tests.unit.reconcilers.workerpool.world import TARGET, PoolWorld

Case = Callable[[], Awaitable[PoolWorld]]
UNKNOWN_SPEED = {"targetLag": "30s", "drainWithin": "5m"}
"""Nothing says how long a job takes."""
HOUR_BEHIND = {"lag_seconds": 3600.0, "backlog": 500, "late": 500}
HELD = (
    'the probe timed out while 3 sessions wait for a lock on "public"."procrastinate_jobs": the session with pid 4711 '
    '(role "shop", application "psql") has held one since 2026-01-01 08:16:27 UTC; end it with '
    "SELECT pg_terminate_backend(4711)"
)
IMAGE = {"reason": "ErrImagePull", "message": "localhost/commands:2.7"}


class Counters:
    """A queue whose counts rise by so many a second."""

    def __init__(self, world: PoolWorld) -> None:
        self.world = world
        self.arrived = self.ended = self.failed = 0.0

    async def run(
        self, seconds: int, *, arrive: float = 0, end: float = 0, fail: float = 0, lag: float = 0, **numbers: Any
    ) -> None:
        """Let it run for so long; the lag is `lag` seconds more in each of them."""
        behind = self.world.probes.numbers.lag_seconds
        for second in range(1, seconds + 1):
            self.arrived, self.ended, self.failed = self.arrived + arrive, self.ended + end, self.failed + fail
            counts = {"arrived": round(self.arrived), "ended": round(self.ended), "failed": round(self.failed)}
            self.world.queue(**{"lag_seconds": max(0.0, behind + lag * second), **counts, **numbers})
            await self.world.advance(1)


async def jobs_that_are_due_later_and_hold_locks() -> PoolWorld:
    world = PoolWorld()
    await Counters(world).run(20, end=2, in_flight=2, **HOUR_BEHIND)
    return world


async def long_jobs_without_a_known_duration() -> PoolWorld:
    world = PoolWorld({"objective": UNKNOWN_SPEED}, replicas=4)
    await Counters(world).run(60, arrive=0.1, in_flight=4, backlog=200, late=180, lag_seconds=1500.0)
    return world


async def finished_jobs_that_are_deleted() -> PoolWorld:
    world = PoolWorld({"objective": UNKNOWN_SPEED}, replicas=4)
    world.queue(ended=None, failed=None, in_flight=4, backlog=200, late=180, lag_seconds=40.0, hides_completions=True)
    await world.advance(60)
    return world


async def jobs_that_are_hours_late() -> PoolWorld:
    world = PoolWorld({"maxWorkers": 4}, replicas=4)
    await Counters(world).run(400, arrive=4, end=4, in_flight=4, backlog=3, late=3, lag=14.6)
    return world


async def late_for_long_with_slots_that_do_not_exist() -> PoolWorld:
    world = PoolWorld({"concurrency": 10, "maxWorkers": 4}, replicas=4)
    await Counters(world).run(400, arrive=5, end=4, in_flight=4, backlog=400, late=300, lag=0.5)
    return world


async def a_head_whose_row_a_transaction_has_locked() -> PoolWorld:
    world = PoolWorld(replicas=4)
    stuck = (StuckItem(4711, holder=80231),)
    await Counters(world).run(90, arrive=3, end=3, in_flight=3, blocked=1, blocked_seconds=700.0, stuck=stuck)
    return world


async def a_head_that_the_workers_pass_over() -> PoolWorld:
    world = PoolWorld(replicas=4)
    stuck = (StuckItem(4711), StuckItem(4720))
    await Counters(world).run(90, arrive=3, end=3, in_flight=3, blocked=2, blocked_seconds=700.0, stuck=stuck)
    return world


async def rare_long_jobs() -> PoolWorld:
    world = PoolWorld({"objective": {"targetLag": "5m", "drainWithin": "10m", "expectedJobDuration": "10m"}})
    await Counters(world).run(300, arrive=6 / 3600, end=6 / 3600, in_flight=1)
    return world


async def sql_with_two_statements_and_fewer_jobs() -> PoolWorld:
    world = PoolWorld({"behavior": {"scaleDown": {"stabilizationWindow": "30s"}}}, replicas=6)
    world.queue(arrived=None, ended=None, failed=None, in_flight=None, backlog=0)
    await world.advance(120)
    return world


async def a_first_start_with_nothing_known() -> PoolWorld:
    world = PoolWorld({"maxWorkers": 40, "objective": UNKNOWN_SPEED}, replicas=1)
    await Counters(world).run(8, arrive=20, in_flight=1, backlog=160, late=100, lag_seconds=40.0)
    return world


async def a_guard_that_cannot_say_how_many_connections_are_free() -> PoolWorld:
    connection = {"host": "store-primary", "database": "store", "credentialsSecretRef": {"name": "jobs"}}
    postgres = {"preset": "procrastinate", "queues": ["mail"], "connection": connection}
    world = PoolWorld({"maxWorkers": 40, "queue": {"type": "Postgres", "postgres": postgres}})
    world.set_secret("jobs", username="monitor", password="monitor-password")
    counters = Counters(world)
    await counters.run(60, arrive=2, end=2, in_flight=2)
    world.stop_guards()
    await counters.run(20, arrive=2, end=2, in_flight=2)
    await counters.run(60, arrive=9, end=2, in_flight=2, backlog=300, late=200, lag=1)
    return world


async def a_declared_duration_that_is_far_too_long() -> PoolWorld:
    objective = {"targetLag": "10s", "drainWithin": "60s", "expectedJobDuration": "1h"}
    world = PoolWorld({"objective": objective, "maxWorkers": 100}, replicas=14)
    await Counters(world).run(120, arrive=1.4, end=1.4, in_flight=14)
    return world


async def rows_that_a_lock_bars() -> PoolWorld:
    world = PoolWorld(replicas=2)
    await Counters(world).run(60, arrive=1, end=1, in_flight=1, blocked=340, blocked_seconds=60.0)
    return world


async def jobs_that_fall_due_at_one_moment() -> PoolWorld:
    world = PoolWorld({"maxWorkers": 100}, replicas=4)
    counters = Counters(world)
    await counters.run(60, arrive=3, end=3, in_flight=3)
    await counters.run(5, arrive=3, end=3, in_flight=3, due_soon=3000)
    return world


async def a_grace_period_shorter_than_a_job() -> PoolWorld:
    world = BusyWorld(grace=30, minWorkers=1, maxWorkers=3)
    await world.advance(60)
    return world


async def a_maximum_below_what_is_wanted() -> PoolWorld:
    world = PoolWorld({"maxWorkers": 4}, replicas=4)
    await Counters(world).run(90, arrive=9, end=4, in_flight=4, backlog=450, late=350, lag=0.6)
    return world


async def jobs_that_fail() -> PoolWorld:
    world = PoolWorld(replicas=2)
    await Counters(world).run(30, arrive=10, end=10, fail=9, in_flight=2, backlog=100, late=80, lag_seconds=45.0)
    return world


async def on_call_a_the_table_is_locked() -> PoolWorld:
    world = PoolWorld(replicas=4)
    await world.advance(30, rate=1)
    world.probes.error = SignalUnavailable(HELD, reason=Reason.QUEUE_LOCKED)
    await world.advance(20)
    return world


async def on_call_b_the_password_is_wrong() -> PoolWorld:
    world = PoolWorld()
    await world.advance(30, rate=1)
    world.primary.roles["monitor"] = MemoryRole("another")
    world.set_secret("store-monitor", username="monitor", password="wrong")
    await world.advance(90)
    return world


async def on_call_c_the_image_does_not_exist() -> PoolWorld:
    world = BoundedWorld(replicas=4)
    await world.advance(10)
    world.deployments.start_seconds = 1e6
    world.queue(lag_seconds=100.0, backlog=600, late=600, in_flight=4)
    for _ in range(15):
        await world.advance(1)
        world.stop({"phase": "Pending", "containerStatuses": [{"state": {"waiting": IMAGE}}]})
    return world


async def on_call_d_another_autoscaler_owns_the_target() -> PoolWorld:
    world = PoolWorld()
    world.cluster.seed(make_autoscaler("mailer-hpa", TARGET.name))
    world.queue(lag_seconds=100.0, backlog=6000, late=6000)
    await world.advance(30)
    return world


async def on_call_f_all_jobs_failed_within_seconds() -> PoolWorld:
    world = PoolWorld()
    counters = Counters(world)
    await counters.run(20)
    await counters.run(5, arrive=60, end=60, fail=60, in_flight=2)
    await counters.run(15, in_flight=0, backlog=0)
    return world


async def on_call_h_the_connections_are_short() -> PoolWorld:
    """Four are declared for a worker, which holds three."""
    world = PoolWorld({"connectionsPerWorker": 4, "maxWorkers": 100, "databaseRole": "shop"})
    world.set_budget(19)
    counters = Counters(world)
    for second in range(60):
        world.primary.sessions = [MemorySession("shop") for _ in range(3 * world.running())]
        backlog = (12 - world.running()) * second
        await counters.run(1, arrive=12, end=world.running(), in_flight=world.running(), backlog=backlog, lag=0.6)
    return world


CASES: tuple[Case, ...] = (
    jobs_that_are_due_later_and_hold_locks,
    long_jobs_without_a_known_duration,
    finished_jobs_that_are_deleted,
    jobs_that_are_hours_late,
    late_for_long_with_slots_that_do_not_exist,
    a_head_whose_row_a_transaction_has_locked,
    a_head_that_the_workers_pass_over,
    rare_long_jobs,
    sql_with_two_statements_and_fewer_jobs,
    a_first_start_with_nothing_known,
    a_guard_that_cannot_say_how_many_connections_are_free,
    a_declared_duration_that_is_far_too_long,
    rows_that_a_lock_bars,
    jobs_that_fall_due_at_one_moment,
    a_grace_period_shorter_than_a_job,
    a_maximum_below_what_is_wanted,
    jobs_that_fail,
    on_call_a_the_table_is_locked,
    on_call_b_the_password_is_wrong,
    on_call_c_the_image_does_not_exist,
    on_call_d_another_autoscaler_owns_the_target,
    on_call_f_all_jobs_failed_within_seconds,
    on_call_h_the_connections_are_short,
)
