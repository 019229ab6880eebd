"""What somebody who knows the future would do: the fewest worker-seconds that keep the lag within its target.

A reference, in fluid: jobs are work that can be divided, and workers are real numbers. It has the limits of the pool:
start delay, growth of one step, stabilization window and step down, minWorkers and maxWorkers.

1. *Need.* The work served until a moment has two limits. It is at most all that has arrived. It is at least what
   arrived a target lag ago, or as much as maxWorkers can have done, where even they are late. Of all curves between the
   two, the taut string has the lowest peak and the smallest changes (Salehi and others, "Supporting stored video",
   1998). Its workers are never idle, and its slope is the count that is needed.
2. *Count.* A worker may go only after a whole window in which it was not needed, and then only in steps. The pool
   may not grow faster than by one step at a time, so that it begins earlier.
3. *Cost.* Worker-seconds of the count, and the start delay of each worker that is started.

The order of the first two makes this a little more than the true minimum. A test compares both where the minimum can be
found by trying all plans.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from random import Random

from headroom.policy.workerpool.constants import DOWN_STEP_SECONDS
from headroom.policy.workerpool.facts import ScalingLimits
from headroom.simulation.load import Job, Load
from headroom.simulation.shapes import Shape

GRID_SECONDS = 5.0
"""... or a fifth of the target lag where that is shorter, at least 1 s."""
LEAST_STEP = 4
STEP_SECONDS = 15.0
"""Growth of one step: at least 4 workers, every 15 s or faster where workers start faster."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The counts of a plan, one for each grid interval of the measured time, and what they cost."""

    counts: tuple[float, ...]
    worker_seconds: float
    grid_seconds: float


def find_optimum(
    shape: Shape,
    load: Load,
    limits: ScalingLimits,
    *,
    start_delay_seconds: float,
    grid_seconds: float | None = None,
) -> Plan:
    """The plan for the measured time of a run."""
    grid_seconds = grid_seconds or min(GRID_SECONDS, max(1.0, limits.target_lag_seconds / 5))
    grid = Grid.of(shape, limits, start_delay_seconds, grid_seconds)
    return grid.price(follow_limits(grid, find_needs(grid, grid.accumulate(iterate_attempts(shape, load)))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The measured time from `since` on, in equal intervals.

    `speeds` and `most` (work per second that can be done at all) are of each interval. `slots` are those of a worker.
    `start_count` is what there is at the beginning of a run in which nothing is known, else None: free.
    """

    limits: ScalingLimits
    since: float
    seconds: float
    speeds: tuple[float, ...]
    most: tuple[float, ...]
    slots: int
    start_delay: float
    start_count: int | None = None

    @classmethod
    def of(cls, shape: Shape, limits: ScalingLimits, start_delay: float, seconds: float) -> "Grid":
        """The grid of a shape."""
        cells = math.ceil((shape.duration - shape.measured_from) / seconds)
        times = [shape.measured_from + cell * seconds for cell in range(cells)]
        useful = math.inf if shape.locked_seconds == 0 else shape.slot_seconds / shape.locked_seconds
        start_count = shape.start_workers if shape.measured_from == 0 else None
        counts = _reach(start_count, limits, start_delay, len(times), seconds)
        speeds = tuple(shape.speed(at) for at in times)
        useful = min(useful, shape.cores or math.inf, shape.keys or math.inf)
        slots = [min(count * shape.concurrency, useful) for count in counts]
        return cls(
            limits=limits,
            since=shape.measured_from,
            seconds=seconds,
            speeds=speeds,
            most=tuple(busy * speed for busy, speed in zip(slots, speeds, strict=True)),
            slots=shape.concurrency,
            start_delay=start_delay,
            start_count=start_count,
        )

    def accumulate(self, attempts: Sequence[tuple[float, float]]) -> list[float]:
        """Work that can have been done by the end of each interval, from (moment, seconds of work).

        A job is not divided among workers: a long one can be worked on for as long as it takes. What can only be done
        before or after the measured time is left out.
        """
        sums = [0.0] * len(self.speeds)
        for at, work in attempts:
            self._spread(sums, at - self.since, work)
        return list(accumulate(sums))

    def price(self, counts: Sequence[float]) -> Plan:
        """The counts as a plan, with the start delay of each worker that is started."""
        starts = sum(max(0.0, after - before) for before, after in pairwise(counts))
        if self.start_count is not None:
            starts += max(0.0, counts[0] - self.start_count)
        return Plan(tuple(counts), sum(counts) * self.seconds + starts * self.start_delay, self.seconds)

    def _spread(self, sums: list[float], at: float, work: float) -> None:
        first, end = math.floor(at / self.seconds), at + work
        if work <= self.seconds:
            if 0 <= first < len(sums):
                sums[first] += work
            return
        for cell in range(max(0, first), min(len(sums), math.ceil(end / self.seconds))):
            begins = cell * self.seconds
            sums[cell] += max(0.0, min(end, begins + self.seconds) - max(at, begins))


def iterate_attempts(shape: Shape, load: Load) -> list[tuple[float, float]]:
    """Moment and work of each attempt, as if no job ever waited; those that fail come again."""
    chance, attempts = Random(load.seed), []
    jobs: list[Job] = [*load.jobs, *(job for batch in load.scheduled for job in batch.jobs)]
    for job in jobs:
        at, work = job.ready_at, job.work_seconds + shape.locked_seconds
        if job.is_stuck:
            continue
        attempts.append((at, work))
        while chance.random() < shape.failing_share(at + work):
            at += work + shape.retry_seconds
            attempts.append((at, work))
    return attempts


def find_needs(grid: Grid, arrived: Sequence[float]) -> list[float]:
    """Workers that are needed in each interval: the slopes of the taut string between what came and what is due."""
    came = [0.0, *arrived]
    upper = _serve_all(grid, came)
    delay = math.floor(grid.limits.target_lag_seconds / grid.seconds)
    lower = [min(came[max(0, index - delay)], upper[index]) for index in range(len(came))]
    lower[-1] = upper[-1]
    clock = [0.0, *accumulate(speed * grid.seconds for speed in grid.speeds)]
    served = pull_string(clock, lower, upper)
    return [
        (after - before) / ((right - left) * grid.slots)
        for (before, after), (left, right) in zip(pairwise(served), pairwise(clock), strict=True)
    ]


def pull_string(clock: Sequence[float], lower: Sequence[float], upper: Sequence[float]) -> list[float]:
    """The shortest curve from the first lower to the last one that stays between both; one value for each clock."""
    values = [lower[0]]
    anchor, height, last = 0, lower[0], len(clock) - 1
    while anchor < last:
        low, high, low_at, high_at = -math.inf, math.inf, anchor, anchor
        bend, slope = last, 0.0
        for index in range(anchor + 1, last + 1):
            run = clock[index] - clock[anchor]
            least = (lower[index] - height) / run
            most = (lower[index] if index == last else upper[index]) - height
            most /= run
            if least > high:
                bend, slope = high_at, high
                break
            if most < low:
                bend, slope = low_at, low
                break
            if least >= low:
                low, low_at = least, index
            if most <= high:
                high, high_at = most, index
        else:
            slope = low
        values += [height + slope * (clock[index] - clock[anchor]) for index in range(anchor + 1, bend + 1)]
        anchor, height = bend, values[-1]
    return values


def follow_limits(grid: Grid, needs: Sequence[float]) -> list[float]:
    """The counts that cover the needs within the limits on steps and the stabilization window."""
    limits = grid.limits
    least = [min(max(need, limits.min_workers), limits.max_workers) for need in needs]
    counts = _hold(least, round(limits.down_window_seconds / grid.seconds))
    pause = max(1, round(max(grid.start_delay, DOWN_STEP_SECONDS) / grid.seconds))
    for index in range(pause, len(counts)):
        before = counts[index - pause]
        counts[index] = max(counts[index], before - max(1.0, before * limits.down_step_percent / 100))
    pace = max(1, round(_pace(grid.start_delay) / grid.seconds))
    for index in range(len(counts) - 1 - pace, -1, -1):
        counts[index] = max(counts[index], _before_step(counts[index + pace], limits))
    return counts


def _hold(counts: Sequence[float], window: int) -> list[float]:
    """The highest count of the window that ends with each interval."""
    held, falling = [], deque[int]()
    for index, count in enumerate(counts):
        while falling and counts[falling[-1]] <= count:
            falling.pop()
        falling.append(index)
        if falling[0] < index - window:
            falling.popleft()
        held.append(counts[falling[0]])
    return held


def _serve_all(grid: Grid, came: Sequence[float]) -> list[float]:
    """Work done by the end of each interval with all workers that there can be."""
    done = [0.0]
    for total, most in zip(came[1:], grid.most, strict=True):
        done.append(min(total, done[-1] + most * grid.seconds))
    return done


def _pace(start_delay: float) -> float:
    return min(start_delay, STEP_SECONDS)


def _reach(start: int | None, limits: ScalingLimits, start_delay: float, cells: int, seconds: float) -> list[float]:
    """Ready workers at most in each interval: all, unless the run begins with `start` of them."""
    if start is None:
        return [float(limits.max_workers)] * cells
    pace, behind = max(_pace(start_delay), seconds), math.ceil(start_delay / seconds)
    asked, count, next_at = [float(start)] * behind, float(start), 0.0
    for cell in range(cells):
        while next_at <= cell * seconds:
            count = min(float(limits.max_workers), _after_step(count, limits))
            next_at += pace
        asked.append(count)
    return asked[:cells]


def _after_step(count: float, limits: ScalingLimits) -> float:
    step = max(LEAST_STEP, count * limits.max_step_percent / 100)
    return count + (step if limits.max_step is None else min(limits.max_step, step))


def _before_step(count: float, limits: ScalingLimits) -> float:
    """The smallest count from which one step reaches this one."""
    before = min(count - LEAST_STEP, count / (1 + limits.max_step_percent / 100))
    return before if limits.max_step is None else max(before, count - limits.max_step)
