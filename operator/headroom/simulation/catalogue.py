"""The loads that the worker policy is measured on, and the pool that meets each of them."""

import math
from collections.abc import Callable

from headroom.simulation.shapes import Batch, Kind, Shape

HOUR = 3600.0


def constant(rate: float) -> Callable[[float], float]:
    """The same rate at all times."""
    return lambda _at: rate


def between(since: float, until: float, inside: float, outside: float) -> Callable[[float], float]:
    """One rate between two moments, another one before and after."""
    return lambda at: inside if since <= at < until else outside


def _ramp(at: float) -> float:
    """4/s, within 20 min up to 60/s, and back."""
    position = min(max(0.0, at - 900), max(0.0, 3300 - at)) / 1200
    return 4 + 56 * min(1.0, position)


def _sawtooth(at: float) -> float:
    """From 5/s to 45/s in ten minutes, then at once back to 5/s."""
    return 5 + 40 * ((at % 600) / 600)


def _sine(at: float) -> float:
    return 25 - 20 * math.cos(2 * math.pi * (at - 600) / 7200)


LISTED: tuple[Shape, ...] = (
    Shape(
        name="steady",
        title="steady 8/s",
        kind=Kind.SMOOTH,
        duration=4200,
        rate=constant(8),
        highest_rate=8,
        start_workers=11,
    ),
    Shape(
        name="steady-20",
        title="steady 20/s",
        kind=Kind.SMOOTH,
        duration=4200,
        rate=constant(20),
        highest_rate=20,
        start_workers=24,
    ),
    Shape(
        name="step",
        title="step x 5: 8 to 40/s for 20 min",
        kind=Kind.SMOOTH,
        duration=4200,
        rate=between(1200, 2400, 40, 8),
        highest_rate=40,
        start_workers=11,
    ),
    Shape(
        name="ramp",
        title="ramp 4 to 60/s in 20 min, and back",
        kind=Kind.SMOOTH,
        duration=4500,
        rate=_ramp,
        highest_rate=60,
        start_workers=6,
    ),
    Shape(
        name="sawtooth",
        title="sawtooth 5 to 45/s, 10 min",
        kind=Kind.WAVE,
        duration=4200,
        rate=_sawtooth,
        highest_rate=45,
        start_workers=8,
    ),
    Shape(
        name="sine",
        title="sine 5 to 45/s, period 2 h",
        kind=Kind.SMOOTH,
        duration=7800,
        rate=_sine,
        highest_rate=45,
        start_workers=8,
    ),
    Shape(
        name="flash",
        title="flash crowd x 20 for 60 s",
        kind=Kind.BURST,
        duration=3000,
        rate=between(1200, 1260, 80, 4),
        highest_rate=80,
        start_workers=6,
    ),
    Shape(
        name="bulk",
        title="bulk of 50,000 at once",
        kind=Kind.BURST,
        duration=3600,
        rate=constant(4),
        highest_rate=4,
        batches=(Batch(900, 50_000),),
        max_workers=200,
        start_workers=6,
    ),
    Shape(
        name="retry-storm",
        title="retry storm: 90 % fail for 10 min",
        kind=Kind.FAULT,
        duration=3600,
        rate=constant(8),
        highest_rate=8,
        failing=(1200, 1800, 0.9),
        start_workers=11,
    ),
    Shape(
        name="poison-head",
        title="poison head: one row nobody can take, after a peak",
        kind=Kind.FAULT,
        duration=7800,
        rate=between(600, 1200, 40, 8),
        highest_rate=40,
        stuck_at=1190,
        start_workers=11,
    ),
    Shape(
        name="slow-database",
        title="database x 5 slower for 10 min",
        kind=Kind.FAULT,
        duration=4200,
        rate=constant(8),
        highest_rate=8,
        slow=((1200, 1800, 0.2),),
        start_workers=11,
    ),
    Shape(
        name="hour-jobs",
        title="jobs of 1 h, 8 then 24 an hour (T = 300 s)",
        kind=Kind.LONG,
        duration=14 * HOUR,
        rate=between(8 * HOUR, 24 * HOUR, 24 / HOUR, 8 / HOUR),
        highest_rate=24 / HOUR,
        job_seconds=HOUR,
        expected_job_seconds=HOUR,
        target_lag=300,
        start_workers=12,
        measured_from=4 * HOUR,
        grace_seconds=2 * HOUR,
    ),
    Shape(
        name="first-start",
        title="first start, nothing known, 20/s",
        kind=Kind.START,
        duration=2400,
        rate=constant(20),
        highest_rate=20,
        is_known=False,
        measured_from=0,
    ),
    Shape(
        name="idle-burst",
        title="nothing for 1 h, then 40/s, minWorkers 0",
        kind=Kind.BURST,
        duration=2 * HOUR + 600,
        rate=between(4200, 6000, 40, 0),
        highest_rate=40,
        min_workers=0,
        start_workers=0,
    ),
    Shape(
        name="race",
        title="the race: a lock caps throughput at 20/s, 25/s arrive",
        kind=Kind.FAULT,
        duration=3600,
        rate=between(600, 3000, 25, 8),
        highest_rate=25,
        job_seconds=0.95,
        locked_seconds=0.05,
        start_workers=12,
        most_workers=40,
    ),
    Shape(
        name="due-at-once",
        title="3,000 jobs due at one moment",
        kind=Kind.BURST,
        duration=3000,
        rate=constant(4),
        highest_rate=4,
        batches=(Batch(1200, 3_000, known_at=0),),
        start_workers=6,
    ),
    Shape(
        name="every-5-min",
        title="900 jobs every 5 min",
        kind=Kind.BURST,
        duration=5400,
        batches=tuple(Batch(600 + 300 * turn, 900) for turn in range(16)),
    ),
)
