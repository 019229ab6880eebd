"""Counts that only grow, from a table of events whose ids are given out in order but become visible out of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field

OVERLAP_SECONDS = 5.0
"""Events are counted again for this long: a transaction that began earlier may commit a smaller id later."""
LONGEST_GAP_SECONDS = 60.0
"""After a longer silence the counts begin anew, so that a statement never has to read an hour of events."""

Counts = dict[str, int]
FlowRow = tuple[bool, str, int]


@dataclass(slots=True)
class EventCounter:
    """Totals by event type: what lies below the watermark is settled, the rest is read again each time.

    `low` is the watermark and `settled` the id it moves to with the next rows; both None until the first answer.
    """

    low: int | None = None
    settled: int | None = None
    _totals: Counts = field(default_factory=dict)
    _marks: list[tuple[float, int]] = field(default_factory=list)
    _counted_at: float | None = None

    def prepare(self, now: float) -> None:
        """Choose the ids the next statement reads; monotonic seconds."""
        if self._counted_at is not None and now - self._counted_at > LONGEST_GAP_SECONDS:
            self.low, self._totals, self._marks, self._counted_at = None, {}, [], None
        old_enough = [event for at, event in self._marks if now - at >= OVERLAP_SECONDS]
        self.settled = max([self.low, *old_enough]) if self.low is not None else None

    def count(self, now: float, rows: Iterable[FlowRow], last_event: int | None) -> Counts | None:
        """Totals since the counter began; None for the first answer, which only sets the watermark."""
        newest = last_event or 0
        if self.low is None:
            self.low, self._counted_at = newest, now
            self._marks = [(now, newest)]
            return None
        fresh: Counts = {}
        for is_settled, kind, events in rows:
            counts = self._totals if is_settled else fresh
            counts[kind] = counts.get(kind, 0) + events
        if self.settled is not None:
            self.low = self.settled
        self._marks = [(at, event) for at, event in self._marks if event > self.low] + [(now, newest)]
        self._counted_at = now
        return {kind: self._totals.get(kind, 0) + fresh.get(kind, 0) for kind in self._totals.keys() | fresh.keys()}
