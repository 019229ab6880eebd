"""Samples in a row, and the intervals between them, from which rates are computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.constants import SERVICE_WINDOW_MOST_SECONDS, TREND_WINDOW_SECONDS

MOST_OBSERVATIONS = 200
KEEP_SECONDS = max(SERVICE_WINDOW_MOST_SECONDS, TREND_WINDOW_SECONDS)


@dataclass(frozen=True, slots=True)
class Observation:
    """A sample, and how many items the workers of that moment could handle at once."""

    sample: QueueSample
    slots: int


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two samples. Counts are None where the source does not tell.

    `busy_seconds` is the integral of busy slots by the trapezoid rule, in slot-seconds, capped by the slots there
    were; None where it cannot be known. Saturated is: all slots busy and a backlog at both ends.
    """

    ended_at: float
    seconds: float
    arrived: int | None
    ended: int | None
    failed: int | None
    busy_seconds: float | None
    is_saturated: bool
    backlog_growth: int


def observe(window: Sequence[Observation], newest: Observation) -> tuple[Observation, ...]:
    """Append a sample, drop what no estimate needs any more, and thin out old samples if there are too many."""
    since = newest.sample.taken_at - KEEP_SECONDS
    kept = tuple(seen for seen in window if seen.sample.taken_at >= since)
    # Thinning loses nothing, since the counts only grow; a decision must not take longer the longer a queue is late.
    if len(kept) >= MOST_OBSERVATIONS:
        half = len(kept) // 2
        kept = (*kept[:half:2], *kept[half:])
    return (*kept, newest)


def intervals(window: Sequence[Observation]) -> tuple[Interval, ...]:
    """The intervals of a window, oldest first; there is none between samples of one moment."""
    return tuple(
        _interval(before, after) for before, after in pairwise(window) if after.sample.taken_at > before.sample.taken_at
    )


def recent(spans: Sequence[Interval], seconds: float) -> tuple[Interval, ...]:
    """The intervals that ended within the last `seconds`, oldest first."""
    if not spans:
        return ()
    since = spans[-1].ended_at - seconds
    return tuple(span for span in spans if span.ended_at > since)


def _interval(before: Observation, after: Observation) -> Interval:
    first, last = before.sample, after.sample
    seconds = last.taken_at - first.taken_at
    had_backlog = first.backlog > 0 and last.backlog > 0
    begin, end = _busy(before, had_backlog=had_backlog), _busy(after, had_backlog=had_backlog)
    mean_busy = None if begin is None or end is None else (begin + end) / 2
    slots = before.slots + after.slots
    return Interval(
        ended_at=last.taken_at,
        seconds=seconds,
        arrived=_difference(first.arrived, last.arrived),
        ended=_difference(first.ended, last.ended),
        failed=_difference(first.failed, last.failed),
        busy_seconds=None if mean_busy is None else mean_busy * seconds,
        is_saturated=had_backlog and slots > 0 and mean_busy == slots / 2,
        backlog_growth=last.backlog - first.backlog,
    )


def _busy(seen: Observation, *, had_backlog: bool) -> float | None:
    """Busy slots of one sample: what is in flight, at most the slots there were; with a backlog all of them are."""
    if seen.sample.in_flight is not None:
        return float(min(seen.sample.in_flight, seen.slots))
    return float(seen.slots) if had_backlog else None


def _difference(before: int | None, after: int | None) -> int | None:
    """Growth of a count that only grows; None if it began again in between."""
    if before is None or after is None or after < before:
        return None
    return after - before
