"""Samples in a row, and the intervals between them, from which rates are computed.

The window has every sample of ten minutes. The history reaches hours back for rare and long jobs, in coarse intervals.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeVar

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.constants import (
    CALM_BACKLOG_SHARE,
    CALM_LAG_SHARE,
    CALM_SHARE,
    HISTORY_SECONDS,
    IDLE_BESIDE_BACKLOG_SECONDS,
    LEARNING_STEP_SECONDS,
    PROBE_SECONDS,
    RATE_WINDOW_SECONDS,
    SATURATED_SHARE,
    SERVICE_WINDOW_MOST_SECONDS,
    TREND_WINDOW_SECONDS,
)

_Number = TypeVar("_Number", int, float)
MOST_OBSERVATIONS = 200
DENSE_OBSERVATIONS = 80
"""The newest are all kept; of the older ones, those of a calm probe interval."""
KEEP_SECONDS = max(SERVICE_WINDOW_MOST_SECONDS, TREND_WINDOW_SECONDS)
HISTORY_SPAN_SECONDS = 60.0
MOST_HISTORY = 96
"""Coarse intervals kept; the older half is joined in pairs when there are more, so that a day still fits."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A sample, and how many items the workers of that moment could handle at once.

    Settled: all workers asked for were ready, so that an idle slot is one that could take an item. `settled_workers` is
    how many those are, 0 while workers come or go. `since_last` keeps the interval since the sample before, so that it
    is computed once.
    """

    sample: QueueSample
    slots: int
    is_settled: bool = True
    settled_workers: int = 0
    since_last: "Interval | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two samples. Counts are None where the source does not tell.

    `busy_seconds` is the integral of busy slots by the trapezoid rule, in slot-seconds, capped by the slots there
    were; None where it cannot be known. `first_busy` are the busy slots of the first sample. Saturated is: nine of ten
    slots busy and a backlog at both ends. `samples` is how many intervals between two samples were joined.
    """

    ended_at: float
    seconds: float
    arrived: int | None
    ended: int | None
    failed: int | None
    busy_seconds: float | None
    is_saturated: bool
    backlog_growth: int
    samples: int = 1
    first_busy: float | None = None


def observe(window: Sequence[Observation], newest: Observation) -> tuple[Observation, ...]:
    """Append a sample, drop what no estimate needs any more, and thin out old samples if there are too many."""
    since = newest.sample.taken_at - KEEP_SECONDS
    kept = tuple(seen for seen in window if seen.sample.taken_at >= since)
    # Thinning loses nothing, since the counts only grow; a decision must not take longer the longer a queue is late.
    if len(kept) >= MOST_OBSERVATIONS:
        kept = (*_thin(kept[:-DENSE_OBSERVATIONS]), *kept[-DENSE_OBSERVATIONS:])
    if kept:
        newest = replace(newest, since_last=_interval(kept[-1], newest))
    return (*kept, newest)


def _thin(window: Sequence[Observation]) -> list[Observation]:
    """The samples without those that follow another one sooner than a calm probe would: no longer gap comes of it."""
    kept: list[Observation] = []
    for seen, following in pairwise((*window, None)):
        assert seen is not None
        since = -math.inf if not kept else kept[-1].sample.taken_at
        if following is None or following.sample.taken_at - since > PROBE_SECONDS:
            kept.append(seen)
    return kept


def remember(history: Sequence[Interval], window: Sequence[Observation]) -> tuple[Interval, ...]:
    """The history with what happened since the last sample but one; the newest interval grows to a minute."""
    newest = intervals(window[-2:])
    if not newest or (newest[0].arrived is None and newest[0].ended is None):
        return tuple(history)
    since = newest[0].ended_at - HISTORY_SECONDS
    kept = tuple(span for span in history if span.ended_at > since)
    if kept and kept[-1].seconds < HISTORY_SPAN_SECONDS:
        return (*kept[:-1], _join(kept[-1], newest[0]))
    if len(kept) >= MOST_HISTORY:
        half = len(kept) // 4 * 2
        kept = (*(_join(*pair) for pair in zip(kept[:half:2], kept[1:half:2], strict=True)), *kept[half:])
    return (*kept, newest[0])


def intervals(window: Sequence[Observation]) -> tuple[Interval, ...]:
    """The intervals of a window, oldest first; there is none between samples of one moment."""
    spans = []
    for before, after in pairwise(window):
        seconds = after.sample.taken_at - before.sample.taken_at
        known = after.since_last
        if seconds > 0:
            # A sample in between may have been dropped.
            spans.append(known if known is not None and known.seconds == seconds else _interval(before, after))
    return tuple(spans)


def recent(spans: Sequence[Interval], seconds: float) -> tuple[Interval, ...]:
    """The intervals that ended within the last `seconds`, oldest first."""
    if not spans:
        return ()
    since = spans[-1].ended_at - seconds
    return tuple(span for span in spans if span.ended_at > since)


def covered_seconds(window: Sequence[Observation]) -> float:
    """How far a window reaches back."""
    return window[-1].sample.taken_at - window[0].sample.taken_at if window else 0.0


def has_idle_slots(window: Sequence[Observation]) -> bool:
    """True when slots were idle beside more waiting items than that, in all samples of a minute of settled workers."""
    minute = newest_within(window, IDLE_BESIDE_BACKLOG_SECONDS)
    return covered_seconds(minute) >= IDLE_BESIDE_BACKLOG_SECONDS * SATURATED_SHARE and all(
        seen.is_settled
        and seen.sample.in_flight is not None
        and seen.sample.in_flight < SATURATED_SHARE * seen.slots
        and seen.sample.backlog > seen.slots - seen.sample.in_flight
        for seen in minute
    )


def is_calm(window: Sequence[Observation], seconds: float, target_lag_seconds: float) -> bool:
    """True when hardly any item waited, and none for long, in a whole window; see CALM_SHARE."""
    seen = newest_within(window, min(seconds, KEEP_SECONDS))
    if not seen or covered_seconds(window) < min(seconds, KEEP_SECONDS) * SATURATED_SHARE:
        return False
    if any(one.sample.lag_seconds > CALM_LAG_SHARE * target_lag_seconds for one in seen):
        return False
    return sum(one.sample.backlog <= CALM_BACKLOG_SHARE * one.slots for one in seen) >= CALM_SHARE * len(seen)


def most_jobs(window: Sequence[Observation]) -> int:
    """The most items that were in flight or waited in a sample of the last minute."""
    return max(
        (
            min(seen.sample.in_flight or 0, seen.slots) + seen.sample.backlog
            for seen in newest_within(window, RATE_WINDOW_SECONDS)
        ),
        default=0,
    )


def backlog_growth(window: Sequence[Observation]) -> float:
    """Items per second that the backlog grew over the last half minute; negative while it falls."""
    seen = newest_within(window, LEARNING_STEP_SECONDS)
    seconds = covered_seconds(seen)
    return (seen[-1].sample.backlog - seen[0].sample.backlog) / seconds if seconds > 0 else 0.0


def newest_within(window: Sequence[Observation], seconds: float) -> Sequence[Observation]:
    """The samples of the last `seconds` before the newest one."""
    since = window[-1].sample.taken_at - seconds if window else 0.0
    return [seen for seen in window if seen.sample.taken_at >= since]


def _interval(before: Observation, after: Observation) -> Interval:
    first, last = before.sample, after.sample
    seconds = last.taken_at - first.taken_at
    had_backlog = first.backlog > 0 and last.backlog > 0
    begin, end = _busy(before, had_backlog=had_backlog), _busy(after, had_backlog=had_backlog)
    mean_busy = None if begin is None or end is None else (begin + end) / 2
    slots = (before.slots + after.slots) / 2
    return Interval(
        ended_at=last.taken_at,
        seconds=seconds,
        arrived=_difference(first.arrived, last.arrived),
        ended=_ended(first, last),
        failed=_difference(first.failed, last.failed),
        busy_seconds=None if mean_busy is None else mean_busy * seconds,
        is_saturated=had_backlog and slots > 0 and (mean_busy or 0.0) >= SATURATED_SHARE * slots,
        backlog_growth=last.backlog - first.backlog,
        first_busy=begin,
    )


def _ended(first: QueueSample, last: QueueSample) -> int | None:
    """The counted ends, else what arrived and is neither waiting nor in flight any more."""
    arrived = _difference(first.arrived, last.arrived)
    is_counted = first.ended is not None or last.ended is not None
    if is_counted or arrived is None or first.in_flight is None or last.in_flight is None:
        return _difference(first.ended, last.ended)
    return max(0, arrived - (last.backlog - first.backlog) - (last.in_flight - first.in_flight))


def _join(first: Interval, second: Interval) -> Interval:
    """Two intervals as one; what either does not tell is unknown of both."""
    return Interval(
        ended_at=second.ended_at,
        seconds=first.seconds + second.seconds,
        arrived=_add(first.arrived, second.arrived),
        ended=_add(first.ended, second.ended),
        failed=_add(first.failed, second.failed),
        busy_seconds=_add(first.busy_seconds, second.busy_seconds),
        is_saturated=first.is_saturated and second.is_saturated,
        backlog_growth=first.backlog_growth + second.backlog_growth,
        samples=first.samples + second.samples,
        first_busy=first.first_busy,
    )


def _add(first: _Number | None, second: _Number | None) -> _Number | None:
    return None if first is None or second is None else first + second


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
