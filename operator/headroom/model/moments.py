"""Moments on both clocks, and times as Kubernetes writes them: RFC 3339 in UTC. Every datetime here must be aware."""

from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_SIGHT_SECONDS = 10.0
"""A new process, or one that sees an object for the first time, reports nothing for so long that it does not know yet:
what an earlier process wrote stays."""
SAME_WITHIN_SECONDS = 2.0
"""A moment that is computed again from a monotonic clock differs by some milliseconds each time."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks: `monotonic` seconds for differences, `wall` (aware, UTC) for people and objects."""

    monotonic: float
    wall: datetime

    def to_wall(self, at: float) -> datetime:
        """The wall time of a monotonic second."""
        return self.wall + timedelta(seconds=at - self.monotonic)

    def to_monotonic(self, text: str) -> float:
        """The monotonic second of an RFC 3339 time."""
        return self.monotonic + (datetime.fromisoformat(text) - self.wall).total_seconds()

    def to_past(self, text: str) -> float:
        """The same of something that has happened, by the word of another process: never later than now, however far
        its clock was ahead of ours.
        """
        return min(self.to_monotonic(text), self.monotonic)


def format_time(moment: datetime) -> str:
    """Whole seconds, as in conditions and in an object's own metadata."""
    # Not %Y: it writes the year 1 with one digit, which no API server takes.
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%SZ}"


def format_moment(moment: datetime) -> str:
    """Microseconds, as in Leases and Events, and for moments from which something is measured."""
    return f"{moment.year:04}-{moment:%m-%dT%H:%M:%S.%fZ}"


def keep_time(moment: datetime, old: str | None) -> str:
    """Whole seconds; the old text while it means the same second or its neighbour."""
    known = None if old is None else parse_moment(old)
    if known is not None and abs((known - moment).total_seconds()) < SAME_WITHIN_SECONDS:
        return str(old)
    return format_time(moment)


def parse_moment(text: str) -> datetime | None:
    """An RFC 3339 time, or None for one that we would not have written: a leap second, the year 0, or no zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
