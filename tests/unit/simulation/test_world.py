"""The world does what queueing theory and Kubernetes say: waits, locks, keys, starts, graceful ends."""

import math
from itertools import pairwise

import pytest

from headroom.simulation.load import draw_load
from tests.unit.simulation.make import list_hands, make_batch, make_shape, make_world

CONSTANT = {"is_constant": True, "job_seconds": 10.0}


def erlang_c(slots: int, load: float) -> float:
    """Share of arrivals that wait in M/M/c."""
    queued = load**slots / math.factorial(slots) * slots / (slots - load)
    return queued / (sum(load**k / math.factorial(k) for k in range(slots)) + queued)


def test_the_mean_queue_is_that_of_an_m_m_c_queue() -> None:
    shape = make_shape(rate=8, duration=6000)
    world = make_world(shape, workers=10)
    lengths = []
    for at in range(600, 6000, 2):
        world.advance(at)
        lengths.append(len(world.line))
    # Erlang C times rho / (1 - rho): about 1.6 jobs wait on average.
    expected = erlang_c(10, 8.0) * 0.8 / 0.2
    assert sum(lengths) / len(lengths) == pytest.approx(expected, rel=0.25)


def test_jobs_are_claimed_first_in_first_out_by_free_slots() -> None:
    world = make_world(make_shape(batches=make_batch(5), **CONSTANT), workers=2)
    world.advance(10)
    assert (world.in_flight, len(world.line), world.lag) == (2, 3, 0)
    world.advance(21)
    assert (world.tally.ended, world.in_flight, len(world.line), world.lag) == (2, 2, 1, 11)
    world.advance(100)
    assert (world.tally.ended, world.tally.highest_lag) == (5, 20)


def test_late_seconds_are_the_time_in_which_some_job_was_late() -> None:
    world = make_world(make_shape(batches=make_batch(5), **CONSTANT), workers=1, target=15)
    world.advance(100)
    # Claims at 10, 20, 30, 40, 50; the last three waited 20, 30 and 40 s: late from 25 to 50.
    assert world.tally.late_seconds == pytest.approx(25)


def test_a_wait_that_has_not_ended_counts() -> None:
    world = make_world(make_shape(batches=make_batch(1)), workers=0, target=15)
    world.advance(60)
    world.close()
    assert (world.tally.highest_lag, world.tally.late_seconds) == (50, 35)


@pytest.mark.parametrize("workers", [4, 40])
def test_a_lock_caps_the_throughput_whatever_the_count(workers: int) -> None:
    shape = make_shape(rate=25, duration=900, job_seconds=0.05, locked_seconds=0.1)
    world = make_world(shape, workers)
    world.advance(900)
    assert world.tally.ended / 900 == pytest.approx(10, rel=0.02)
    assert world.in_flight == workers
    assert world.lock_waiters >= workers - 3


def test_beyond_its_cores_the_database_does_no_more() -> None:
    shape = make_shape(rate=30, duration=900, cores=5)
    done = []
    for workers in (5, 20):
        world = make_world(shape, workers)
        world.advance(900)
        done.append(world.tally.ended / 900)
    assert done == [pytest.approx(5, rel=0.06), pytest.approx(5, rel=0.06)]


def test_a_slow_database_makes_jobs_in_hand_take_longer_too() -> None:
    world = make_world(make_shape(batches=make_batch(1), slow=((15, 25, 0.2),), **CONSTANT), workers=1)
    world.advance(27.9)
    assert world.tally.ended == 0  # 5 s of work until 15, 2 s until 25, 3 s after that
    world.advance(28.1)
    assert world.tally.ended == 1


def test_jobs_of_one_key_run_one_at_a_time_and_wait_apart() -> None:
    world = make_world(make_shape(batches=make_batch(3), keys=1, **CONSTANT), workers=5)
    world.advance(11)
    assert (world.in_flight, len(world.line), world.blocked, world.tally.arrived) == (1, 0, 2, 1)
    world.advance(21)
    assert (world.in_flight, world.blocked, world.tally.arrived) == (1, 1, 2)
    world.advance(60)
    assert (world.tally.ended, world.blocked) == (3, 0)


def test_scheduled_jobs_are_seen_coming_and_arrive_when_they_are_due() -> None:
    world = make_world(make_shape(batches=make_batch(4, at=100, known_at=20), **CONSTANT), workers=1)
    world.advance(19)
    assert world.count_due(1000) == 0
    world.advance(50)
    assert (world.count_due(40), world.count_due(60), world.tally.arrived) == (0, 4, 0)
    world.advance(101)
    assert (world.count_due(1000), world.tally.arrived, world.in_flight) == (0, 4, 1)


def test_failed_attempts_come_again() -> None:
    shape = make_shape(batches=make_batch(1), failing=(0, 35, 1.0), retry_seconds=20, **CONSTANT)
    world = make_world(shape, workers=1)
    world.advance(100)
    # Attempts end at 20 (failed, again at 40) and at 50.
    assert (world.tally.arrived, world.tally.ended, world.tally.failed) == (2, 2, 1)


def test_a_stuck_job_looks_like_backlog_and_is_never_claimed() -> None:
    world = make_world(make_shape(rate=2, stuck_at=100), workers=5)
    world.advance(600)
    assert (world.lag, world.count_late(30)) == (500, 1)
    assert world.tally.highest_lag < 5  # nobody could have helped the stuck one
    (oldest, since), *_ = world.line.list_oldest(3)
    assert oldest.is_stuck
    assert since == 100


def test_workers_start_after_the_delay_and_the_youngest_go_first() -> None:
    world = make_world(make_shape(), workers=2, start_delay=20)
    world.deployment.scale(4)
    world.advance(15)
    pods = world.deployment.observe().pods
    assert (pods.ready, pods.waiting, pods.in_time) == (2, 2, 4)
    world.advance(23)
    assert world.deployment.observe().pods.ready == 4
    world.deployment.scale(2)
    assert [number for number, _ in list_hands(world)] == [1, 2]


def test_a_worker_that_starts_goes_before_one_that_is_ready() -> None:
    world = make_world(make_shape(), workers=1, start_delay=20)
    world.deployment.scale(2)
    world.advance(5)
    world.deployment.scale(1)
    world.advance(60)
    assert (world.deployment.ready, world.deployment.existing) == (1, 1)


@pytest.mark.parametrize("is_marked", [True, False])
def test_idle_workers_go_before_busy_ones_only_where_they_are_marked(is_marked: bool) -> None:
    world = make_world(make_shape(batches=make_batch(1), **CONSTANT), workers=2)
    world.advance(11)
    busy = [number for number, hands in list_hands(world) if hands]
    world.deployment.scale(1, idle_first=is_marked)
    assert ([number for number, _ in list_hands(world)] == busy) is is_marked


def test_a_worker_that_ends_finishes_its_job_within_its_grace_period() -> None:
    world = make_world(make_shape(batches=make_batch(1), grace_seconds=30, **CONSTANT), workers=1)
    world.advance(12)
    world.deployment.scale(0)
    assert (world.deployment.existing, world.deployment.observe().pods.terminating) == (1, 1)
    world.advance(21)
    assert (world.tally.ended, world.tally.cut, world.deployment.existing) == (1, 0, 0)
    # 21 s of one worker, although it was told to go after 12.
    world.deployment.update_bill()
    assert world.deployment.bill.worker_seconds == pytest.approx(20)


def test_a_job_is_cut_at_the_end_of_the_grace_period_and_waits_again() -> None:
    world = make_world(make_shape(batches=make_batch(1), grace_seconds=5, **CONSTANT), workers=1)
    world.advance(12)
    world.deployment.scale(0)
    world.advance(18)
    assert (world.tally.cut, world.in_flight, len(world.line), world.deployment.existing) == (1, 0, 1, 0)
    world.deployment.scale(1)
    world.advance(60)
    assert world.tally.ended == 1


def test_a_cut_job_gives_the_lock_back() -> None:
    shape = make_shape(batches=make_batch(2), job_seconds=0.0, is_constant=True, locked_seconds=50, grace_seconds=5)
    world = make_world(shape, workers=2)
    world.advance(12)
    assert (world.in_flight, world.lock_waiters) == (2, 1)
    world.deployment.scale(1)
    world.advance(200)
    assert world.tally.ended == 2


def test_the_same_seed_draws_the_same_jobs_and_another_one_others() -> None:
    shape = make_shape(rate=5)
    first, again, other = (draw_load(shape, seed).jobs for seed in (1, 1, 2))
    drawn = [(job.ready_at, job.work_seconds) for job in first]
    assert drawn == [(job.ready_at, job.work_seconds) for job in again]
    assert drawn != [(job.ready_at, job.work_seconds) for job in other]
    assert len(first) == pytest.approx(3000, rel=0.06)
    assert all(before.ready_at <= after.ready_at for before, after in pairwise(first))
