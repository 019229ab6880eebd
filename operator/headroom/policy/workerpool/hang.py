"""Workers that hold jobs of which none ends. They hang, and neither more of them nor time changes that."""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.policy.workerpool.constants import HANG_JOBS, HANG_SECONDS, SERVICE_TIMES_LEAST
from headroom.policy.workerpool.window import Observation, intervals


@dataclass(frozen=True, slots=True)
class LastEnd:
    """When a job was last seen to end (monotonic seconds), and jobs per second of a slot by then; None: not known."""

    at: float
    rate: float | None


@dataclass(frozen=True, slots=True)
class Hang:
    """No job has ended for `seconds`, and one took `job_seconds` before that."""

    seconds: float
    job_seconds: float


def see_end(last: LastEnd | None, window: Sequence[Observation], rate: float | None) -> LastEnd | None:
    """The memory after the newest sample of a window; without jobs in flight none can be overdue."""
    newest = intervals(window[-2:])
    if last is not None and newest and newest[0].ended == 0 and window[-1].sample.in_flight:
        return last
    return LastEnd(window[-1].sample.taken_at, rate) if window else None


def find_hang(last: LastEnd | None, window: Sequence[Observation]) -> Hang | None:
    """Whether the workers hang, by the newest sample; a source that does not count ends cannot tell."""
    if last is None or last.rate is None or not window or window[-1].sample.backlog == 0:
        return None
    sample = window[-1].sample
    seconds, slots = sample.taken_at - last.at, min(sample.in_flight or 0, window[-1].slots)
    if seconds < max(HANG_SECONDS, SERVICE_TIMES_LEAST / last.rate) or slots * seconds * last.rate < HANG_JOBS:
        return None
    return Hang(seconds, 1 / last.rate)
