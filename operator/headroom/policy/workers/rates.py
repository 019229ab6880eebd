"""From intervals to rates: arrivals and their trend, completions, and what one busy slot gets done in a second."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from headroom.policy.workers.constants import (
    BULK_FLOOR,
    BULK_LEAST_INTERVALS,
    CHANGE_SIGNIFICANCE,
    CHANGE_SPANS,
    FAILING_WINDOW_SECONDS,
    GAP_FACTOR,
    KNOWN_AFTER_JOBS,
    PRIOR_JOBS,
    PROBE_SECONDS,
    RATE_WINDOW_SECONDS,
    SERVICE_TIMES_LEAST,
    SERVICE_WINDOW_LEAST_SECONDS,
    SERVICE_WINDOW_MOST_SECONDS,
    SIGHTINGS_ENOUGH,
    SIGHTINGS_LEAST,
    TREND_LEAST_INTERVALS,
    TREND_SIGNIFICANCE,
    TREND_WINDOW_SECONDS,
)
from headroom.policy.workers.window import Interval, recent


@dataclass(frozen=True, slots=True)
class Estimates:
    """Rates per second; None is not known yet.

    `service_rate` is jobs per second of one busy slot, waiting for the database included; `measured_rate` the same
    when enough jobs ended to be remembered as the last good value. `arrivals_growth` is per second per second and 0
    unless it is significant. `ended` and `failed` are of the failure window.
    """

    arrivals_per_second: float | None = None
    arrivals_growth: float = 0.0
    completions_per_second: float | None = None
    service_rate: float | None = None
    measured_rate: float | None = None
    ended: int = 0
    failed: int = 0


def estimate(
    spans: Sequence[Interval], *, last_good_rate: float | None = None, expected_job_seconds: float | None = None
) -> Estimates:
    """Estimate all rates from the intervals of a window; the last good rate outranks what the spec expects."""
    prior = last_good_rate or (1 / expected_job_seconds if expected_job_seconds else None)
    service_rate, is_measured = _service_rate(spans, prior)
    arrivals = _without_bulk(_arrivals(recent(spans, TREND_WINDOW_SECONDS), service_rate))
    since = spans[-1].ended_at - RATE_WINDOW_SECONDS if spans else math.inf
    failing = recent(spans, FAILING_WINDOW_SECONDS)
    return Estimates(
        arrivals_per_second=_rate_now([point for point in arrivals if point.at > since]),
        arrivals_growth=_growth(arrivals),
        completions_per_second=_completions(recent(spans, RATE_WINDOW_SECONDS)),
        service_rate=service_rate,
        measured_rate=service_rate if is_measured else None,
        ended=sum(span.ended or 0 for span in failing),
        failed=sum(span.failed or 0 for span in failing),
    )


def _service_rate(spans: Sequence[Interval], prior: float | None) -> tuple[float | None, bool]:
    """m = (k + 5) / (busy + 5/m0) over at least 5 service times; the prior alone while too little was seen busy."""
    ended, busy_seconds, sightings = _work(spans, prior)
    is_measured = ended >= KNOWN_AFTER_JOBS and sightings >= SIGHTINGS_LEAST
    if prior is None:
        return (ended / busy_seconds, True) if is_measured else (None, False)
    if sightings < SIGHTINGS_LEAST:
        return prior, False
    return (ended + PRIOR_JOBS) / (busy_seconds + PRIOR_JOBS / prior), is_measured


def _work(spans: Sequence[Interval], prior: float | None) -> tuple[int, float, float]:
    """Ended attempts, busy slot-seconds and independent sightings of a busy slot, over as short a time as is enough.

    Busy slots are sampled, so a quiet pool needs a longer look; two sightings within one service time are one. While
    all slots are busy nothing is left to chance but the jobs themselves.
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


@dataclass(frozen=True, slots=True)
class _Arrivals:
    """Arrivals of one interval: its middle, its length, and how many."""

    at: float
    seconds: float
    count: float


def _arrivals(spans: Sequence[Interval], service_rate: float | None) -> list[_Arrivals]:
    """Arrivals per interval, derived where the source does not tell; gaps left out."""
    if not spans:
        return []
    longest = GAP_FACTOR * max(median(span.seconds for span in spans), PROBE_SECONDS)
    points = []
    for span in spans:
        count = _arrived(span, service_rate)
        if count is not None and span.seconds <= longest:
            points.append(_Arrivals(span.ended_at - span.seconds / 2, span.seconds, count))
    return points


def _arrived(span: Interval, service_rate: float | None) -> float | None:
    """Counted arrivals, else what must have come in: growth of the backlog plus what left it."""
    if span.arrived is not None:
        return float(span.arrived)
    if span.ended is not None:
        return float(max(0, span.backlog_growth + span.ended))
    if service_rate is not None and span.busy_seconds is not None:
        return max(0.0, span.backlog_growth + service_rate * span.busy_seconds)
    return None


def _without_bulk(points: list[_Arrivals]) -> list[_Arrivals]:
    """Leave out an interval that alone holds more than half of all arrivals: it is backlog, and counted as such."""
    total = sum(point.count for point in points)
    if len(points) < BULK_LEAST_INTERVALS:
        return points
    return [point for point in points if point.count <= max(BULK_FLOOR, total / 2)]


def _rate_now(points: Sequence[_Arrivals]) -> float | None:
    """The rate of the whole window, unless the newest spans say that it has changed since.

    The middle one of three spans counts, so that no single batch is taken for a change, and only where it is beyond
    what chance makes of the window's rate (Poisson).
    """
    mean = _rate(points)
    spans = _newest_spans(points)
    if mean is None or len(spans) < CHANGE_SPANS:
        return mean
    middle = sorted(spans, key=lambda span: span.count / span.seconds)[CHANGE_SPANS // 2]
    expected = mean * middle.seconds
    has_changed = middle.count > expected + CHANGE_SIGNIFICANCE * math.sqrt(expected + 1)
    return middle.count / middle.seconds if has_changed else mean


def _newest_spans(points: Sequence[_Arrivals]) -> list[_Arrivals]:
    """The newest intervals, put together until each span lasts as long as a calm probe interval."""
    spans: list[_Arrivals] = []
    seconds = count = 0.0
    for point in reversed(points):
        seconds, count = seconds + point.seconds, count + point.count
        if seconds >= PROBE_SECONDS * 0.8:
            spans.append(_Arrivals(point.at, seconds, count))
            seconds = count = 0.0
        if len(spans) == CHANGE_SPANS:
            break
    return spans


def _rate(points: Sequence[_Arrivals]) -> float | None:
    seconds = sum(point.seconds for point in points)
    return sum(point.count for point in points) / seconds if seconds > 0 else None


def _completions(spans: Sequence[Interval]) -> float | None:
    told = [(span.ended, span.seconds) for span in spans if span.ended is not None]
    seconds = sum(duration for _, duration in told)
    return sum(ended for ended, _ in told) / seconds if seconds > 0 else None


def _growth(points: Sequence[_Arrivals]) -> float:
    """Slope of the arrival rate by least squares, intervals weighted by length; 0 unless it is clearly above zero."""
    if len(points) < TREND_LEAST_INTERVALS:
        return 0.0
    weight = sum(point.seconds for point in points)
    mean_at = sum(point.at * point.seconds for point in points) / weight
    mean_rate = sum(point.count for point in points) / weight
    spread = sum(point.seconds * (point.at - mean_at) ** 2 for point in points)
    slope = sum((point.at - mean_at) * (point.count - mean_rate * point.seconds) for point in points) / spread
    residual = sum(
        point.seconds * (point.count / point.seconds - mean_rate - slope * (point.at - mean_at)) ** 2
        for point in points
    )
    error = math.sqrt(residual / (len(points) - 2) / spread)
    return slope if slope > TREND_SIGNIFICANCE * error else 0.0
