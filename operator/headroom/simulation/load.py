"""The jobs of one run, drawn from a shape and a seed, so that every autoscaler meets the same ones."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from headroom.simulation.shapes import Batch, Shape


@dataclass(slots=True, eq=False)
class Job:
    """One job: when it is ready, and how long it takes a slot of an idle database, before what it does with the lock.

    `token` changes whenever a job ends or is cut, so that what was planned for it before no longer counts.
    """

    id: int
    ready_at: float
    work_seconds: float
    key: int | None = None
    is_stuck: bool = False
    has_lock: bool = False
    claimed_at: float = 0.0
    token: int = 0


@dataclass(frozen=True, slots=True)
class ScheduledJobs:
    """Jobs that the queue knows before they are due."""

    known_at: float
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """All jobs of a run: those that come unannounced, by their time, and those that are scheduled."""

    seed: int
    jobs: list[Job]
    scheduled: tuple[ScheduledJobs, ...]


def draw_load(shape: Shape, seed: int) -> Load:
    """Draw the arrivals (a Poisson process of the shape's rate, and its batches) and how long each job takes."""
    chance, ids = Random(seed), count(1)
    moments = list(_draw_arrivals(shape, chance))
    moments += [batch.at for batch in shape.batches if batch.known_at is None for _ in range(batch.jobs)]
    jobs = [_draw_job(shape, chance, next(ids), at) for at in sorted(moments)]
    if shape.stuck_at is not None:
        jobs.append(Job(next(ids), shape.stuck_at, 0.0, is_stuck=True))
        jobs.sort(key=lambda job: job.ready_at)
    scheduled = tuple(
        ScheduledJobs(batch.known_at, _draw_batch(shape, chance, ids, batch))
        for batch in shape.batches
        if batch.known_at is not None
    )
    return Load(seed, jobs, scheduled)


def _draw_arrivals(shape: Shape, chance: Random) -> Iterator[float]:
    """Thinning (Lewis and Shedler): draw at the highest rate, and keep the share of the rate of the moment."""
    if shape.highest_rate <= 0:
        return
    at = 0.0
    while (at := at - math.log(1 - chance.random()) / shape.highest_rate) < shape.duration:
        if chance.random() * shape.highest_rate < shape.rate(at):
            yield at


def _draw_batch(shape: Shape, chance: Random, ids: Iterator[int], batch: Batch) -> tuple[Job, ...]:
    return tuple(_draw_job(shape, chance, next(ids), batch.at) for _ in range(batch.jobs))


def _draw_job(shape: Shape, chance: Random, number: int, at: float) -> Job:
    seconds = shape.job_seconds if shape.is_constant else -math.log(1 - chance.random()) * shape.job_seconds
    key = None if shape.keys is None else chance.randrange(shape.keys)
    return Job(number, at, seconds, key)
