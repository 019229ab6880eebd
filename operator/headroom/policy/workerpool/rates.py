"""From intervals to rates: arrivals and their trend, completions, and how much one busy slot does in a second."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headroom.policy.workerpool.arrivals import estimate_arrivals
from headroom.policy.workerpool.constants import (
    FAILING_LEAST_ENDED,
    FAILING_LEAST_SECONDS,
    FAILING_WINDOW_SECONDS,
    KNOWN_AFTER_JOBS,
    PRIOR_JOBS,
    RATE_WINDOW_SECONDS,
    SERVICE_ERROR_ENOUGH,
    SERVICE_MOVED_SIGNIFICANCE,
    SERVICE_TIMES_LEAST,
    SERVICE_WINDOW_MOST_SECONDS,
    SERVICE_WINDOWS_SECONDS,
    SIGHTINGS_LEAST,
)
from headroom.policy.workerpool.counts import Count
from headroom.policy.workerpool.window import Interval, recent


@dataclass(frozen=True, slots=True)
class Estimates:
    """Rates per second; None is not known yet.

    `service_rate` is jobs per second of one busy slot, waiting for the database included; `measured_rate` the same
    when enough jobs ended to be remembered as the last good value. Arrivals were at their rate `arrivals_age_seconds`
    ago, and grow by `arrivals_growth` per second per second; `arrivals_long_run` does not follow every move. `bulks`
    came at one moment and are in no rate. `ended` and `failed` are of the failure window.
    """

    arrivals_per_second: float | None = None
    arrivals_age_seconds: float = 0.0
    arrivals_growth: float = 0.0
    arrivals_cv_squared: float = 1.0
    arrivals_long_run: float | None = None
    bulks: tuple[Count, ...] = ()
    completions_per_second: float | None = None
    service_rate: float | None = None
    measured_rate: float | None = None
    ended: int = 0
    failed: int = 0


def estimate(
    spans: Sequence[Interval],
    history: Sequence[Interval] = (),
    *,
    last_good_rate: float | None = None,
    expected_job_seconds: float | None = None,
    target_lag_seconds: float = 0.0,
) -> Estimates:
    """Estimate all rates from the intervals of a window and of the hours before.

    Measured from enough jobs, the service rate needs neither the last good one nor what the spec expects; until then
    the last good one has priority.
    """
    prior = last_good_rate or (1 / expected_job_seconds if expected_job_seconds else None)
    measured = _measure(spans, history, is_new=prior is None)
    service_rate = measured or _bounded_prior(recent(spans, SERVICE_WINDOW_MOST_SECONDS), prior)
    arrivals = estimate_arrivals(spans, history, service_rate, target_lag_seconds)
    ended, failed = _failures(spans)
    return Estimates(
        arrivals_per_second=arrivals.per_second,
        arrivals_age_seconds=arrivals.age_seconds,
        arrivals_growth=arrivals.growth,
        arrivals_cv_squared=arrivals.cv_squared,
        arrivals_long_run=arrivals.long_run,
        bulks=arrivals.bulks,
        completions_per_second=_completions(recent(spans, RATE_WINDOW_SECONDS)),
        service_rate=service_rate,
        measured_rate=measured,
        ended=ended,
        failed=failed,
    )


@dataclass(frozen=True, slots=True)
class _Work:
    """Ended attempts, busy slot-seconds, time with any busy slot, and independent sightings of a busy slot.

    Busy slots are sampled; two sightings within one service time count once. While all slots are busy, only the jobs
    themselves vary. `first_busy` are the slots that were busy at the beginning: of what they end, not all the work is
    in here.
    """

    ended: int = 0
    busy_seconds: float = 0.0
    seconds: float = 0.0
    sightings: float = 0.0
    first_busy: float = 0.0

    @property
    def rate(self) -> float:
        return self.ended / self.busy_seconds

    @property
    def error(self) -> float:
        return math.sqrt(1 / self.ended + 1 / self.sightings)

    @property
    def is_known(self) -> bool:
        """Twenty jobs and as many sightings."""
        return self.ended >= KNOWN_AFTER_JOBS and self.sightings >= SIGHTINGS_LEAST

    @property
    def is_enough(self) -> bool:
        """Known over five service times: in a shorter piece of time, jobs that began together may end together.

        Five times as many must end as ran at its beginning: a piece of time that begins within a batch has the ends of
        jobs whose work was before it.
        """
        is_long = self.seconds * self.ended >= SERVICE_TIMES_LEAST * self.busy_seconds
        return self.is_known and is_long and self.ended >= SERVICE_TIMES_LEAST * self.first_busy

    def add(self, span: Interval) -> "_Work":
        """With the interval before; what does not tell its work is left out."""
        if span.ended is None or span.busy_seconds is None:
            return self
        ended, busy_seconds = self.ended + span.ended, self.busy_seconds + span.busy_seconds
        seen = float(span.ended)
        if not span.is_saturated:
            service_seconds = busy_seconds / ended if ended else span.seconds
            seen = span.busy_seconds / max(span.seconds / span.samples, service_seconds)
        seconds = self.seconds + (span.seconds if span.busy_seconds > 0 else 0.0)
        return _Work(ended, busy_seconds, seconds, self.sightings + seen, span.first_busy or 0.0)


def _measure(spans: Sequence[Interval], history: Sequence[Interval], *, is_new: bool) -> float | None:
    """The service rate of one slot from the newest jobs that are enough; longer windows while they say the same.

    A pool that is new to every process was observed from its first job on: then its whole history is enough.
    """
    found: _Work | None = None
    for work in _windows(spans):
        if found is None:
            found = work if work.is_enough else None
        elif found.error > SERVICE_ERROR_ENOUGH and _agree(found, work):
            found = work
        else:
            break
    if found is not None:
        return found.rate
    work = _Work()
    for span in reversed(history):
        work = work.add(span)
        if work.is_enough:
            return work.rate
    return work.rate if is_new and work.is_known else None


def _windows(spans: Sequence[Interval]) -> Iterator[_Work]:
    """The work of ever longer windows."""
    if not spans:
        return
    now, work = spans[-1].ended_at, _Work()
    lengths = list(SERVICE_WINDOWS_SECONDS)
    for span in reversed(spans):
        while lengths and now - span.ended_at >= lengths[0]:
            lengths.pop(0)
            yield work
        if not lengths:
            return
        work = work.add(span)
    yield work


def _agree(found: _Work, work: _Work) -> bool:
    return work.is_known and abs(math.log(work.rate / found.rate)) <= SERVICE_MOVED_SIGNIFICANCE * found.error


def _bounded_prior(spans: Sequence[Interval], prior: float | None) -> float | None:
    """(k + B + 5) / (busy + 5/m0) while all slots are busy, if that is below m0: running jobs bound it from above.

    The B jobs that run now may end at this moment: they count as ended, so that only a long run tells of long jobs.
    """
    if prior is None:
        return None
    work, running = _Work(), 0.0
    for span in spans:
        if span.is_saturated and span.busy_seconds is not None:
            work, running = work.add(span), span.busy_seconds / span.seconds
    return min(prior, (work.ended + running + PRIOR_JOBS) / (work.busy_seconds + PRIOR_JOBS / prior))


def _failures(spans: Sequence[Interval]) -> tuple[int, int]:
    """Ended and failed attempts of as short a time as tells anything: failures that have ended stop no growth."""
    ended = failed = 0
    seconds = 0.0
    for span in reversed(recent(spans, FAILING_WINDOW_SECONDS)):
        if ended >= FAILING_LEAST_ENDED and seconds >= FAILING_LEAST_SECONDS:
            break
        ended, failed, seconds = ended + (span.ended or 0), failed + (span.failed or 0), seconds + span.seconds
    return ended, failed


def _completions(spans: Sequence[Interval]) -> float | None:
    told = [(span.ended, span.seconds) for span in spans if span.ended is not None]
    seconds = sum(duration for _, duration in told)
    return sum(ended for ended, _ in told) / seconds if seconds > 0 else None
