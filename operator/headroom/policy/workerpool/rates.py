"""From intervals to rates: arrivals and their trend, completions, and how much one busy slot does in a second."""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.policy.workerpool.arrivals import estimate_arrivals
from headroom.policy.workerpool.constants import (
    FAILING_WINDOW_SECONDS,
    KNOWN_AFTER_JOBS,
    PRIOR_JOBS,
    RATE_WINDOW_SECONDS,
    SERVICE_TIMES_LEAST,
    SERVICE_WINDOW_LEAST_SECONDS,
    SERVICE_WINDOW_MOST_SECONDS,
    SIGHTINGS_ENOUGH,
    SIGHTINGS_LEAST,
)
from headroom.policy.workerpool.window import Interval, recent


@dataclass(frozen=True, slots=True)
class Estimates:
    """Rates per second; None is not known yet.

    `service_rate` is jobs per second of one busy slot, waiting for the database included; `measured_rate` the same
    when enough jobs ended to be remembered as the last good value. Arrivals were at their rate `arrivals_age_seconds`
    ago, and grow by `arrivals_growth` per second per second. `ended` and `failed` are of the failure window.
    """

    arrivals_per_second: float | None = None
    arrivals_age_seconds: float = 0.0
    arrivals_growth: float = 0.0
    completions_per_second: float | None = None
    service_rate: float | None = None
    measured_rate: float | None = None
    ended: int = 0
    failed: int = 0


def estimate(
    spans: Sequence[Interval], *, last_good_rate: float | None = None, expected_job_seconds: float | None = None
) -> Estimates:
    """Estimate all rates from the intervals of a window; the last good rate has priority over what the spec expects."""
    prior = last_good_rate or (1 / expected_job_seconds if expected_job_seconds else None)
    service_rate, is_measured = _service_rate(spans, prior)
    arrivals = estimate_arrivals(spans, service_rate)
    failing = recent(spans, FAILING_WINDOW_SECONDS)
    return Estimates(
        arrivals_per_second=arrivals.per_second,
        arrivals_age_seconds=arrivals.age_seconds,
        arrivals_growth=arrivals.growth,
        completions_per_second=_completions(recent(spans, RATE_WINDOW_SECONDS)),
        service_rate=service_rate,
        measured_rate=service_rate if is_measured else None,
        ended=sum(span.ended or 0 for span in failing),
        failed=sum(span.failed or 0 for span in failing),
    )


def _service_rate(spans: Sequence[Interval], prior: float | None) -> tuple[float | None, bool]:
    """m = (k + 5) / (busy + 5/m0) over at least 5 service times; only the prior while too little was seen busy."""
    ended, busy_seconds, sightings = _work(spans, prior)
    is_measured = ended >= KNOWN_AFTER_JOBS and sightings >= SIGHTINGS_LEAST
    if prior is None:
        return (ended / busy_seconds, True) if is_measured else (None, False)
    if sightings < SIGHTINGS_LEAST:
        return prior, False
    return (ended + PRIOR_JOBS) / (busy_seconds + PRIOR_JOBS / prior), is_measured


def _work(spans: Sequence[Interval], prior: float | None) -> tuple[int, float, float]:
    """Ended attempts, busy slot-seconds and independent sightings of a busy slot, over as short a time as is enough.

    Busy slots are sampled, so a quiet pool needs a longer time; two sightings within one service time count once. While
    all slots are busy, only the jobs themselves vary.
    """
    service_seconds = 1 / prior if prior else 0.0
    enough_seconds = max(SERVICE_TIMES_LEAST * service_seconds, SERVICE_WINDOW_LEAST_SECONDS)
    ended, busy_seconds, sightings, seconds = 0, 0.0, 0.0, 0.0
    for span in reversed(recent(spans, SERVICE_WINDOW_MOST_SECONDS)):
        if seconds >= enough_seconds and sightings >= SIGHTINGS_ENOUGH:
            break
        if span.ended is None or span.busy_seconds is None:
            continue
        ended += span.ended
        busy_seconds += span.busy_seconds
        sightings += span.ended if span.is_saturated else span.busy_seconds / max(span.seconds, service_seconds)
        seconds += span.seconds
    return ended, busy_seconds, sightings


def _completions(spans: Sequence[Interval]) -> float | None:
    told = [(span.ended, span.seconds) for span in spans if span.ended is not None]
    seconds = sum(duration for _, duration in told)
    return sum(ended for ended, _ in told) / seconds if seconds > 0 else None
