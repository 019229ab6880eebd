"""What happened to procrastinate's jobs between two samples: ends by event, arrivals, and jobs that were deleted.

Each statement is one snapshot, in which a job's status and its events agree. What a snapshot did not read (a limit was
met) or could not see yet (a transaction commits later) is counted by a later one.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

OVERLAP_SECONDS = 5.0
"""Events are counted again for this long: a transaction that began earlier may commit a smaller id later."""
LONGEST_GAP_SECONDS = 60.0
"""After a longer silence the counts begin at zero again, so that a statement never has to read an hour of events."""
KEPT_ROWS = 200
KEPT_SHARE = 0.75
"""Rows looked at just below the oldest running job, and the share of them that exists unless jobs are deleted."""
DELETED_WINDOW_SECONDS = 30.0
DELETED_LEAST = 10
DELETED_INTERVALS = 3
"""At least ten ids were used and are gone, and rows were deleted in three intervals of 30 s: not one cleaning of old
jobs."""
STATISTICS_SECONDS = 12.0
"""The server tells deleted rows up to 10 s late (PGSTAT_IDLE_INTERVAL)."""

EVENT_TYPES = frozenset(("started", "deferred_for_retry", "failed", "succeeded", "aborted", "cancelled"))
"""What the statement counts; whoever owns the tables could name any number of others."""

Counts = dict[str, int]
FlowRow = tuple[bool, str, int]


def parse_flow(value: object) -> list[FlowRow]:
    """Rows of (is it settled, event type, events) out of JSON."""
    rows = parse_json(value)
    return [(bool(is_settled), kind, int(events)) for is_settled, kind, events in rows if kind in EVENT_TYPES]


def parse_json(value: object) -> list[Any]:
    """The list in it; empty for null. The driver may have parsed it already."""
    parsed = json.loads(value) if isinstance(value, str) else value
    return parsed if isinstance(parsed, list) else []


def count_ended(counts: Counts) -> int:
    """Attempts that ended."""
    return sum(counts.get(kind, 0) for kind in ("succeeded", "failed", "aborted", "deferred_for_retry"))


def count_failed(counts: Counts) -> int:
    """Those of them that failed."""
    return sum(counts.get(kind, 0) for kind in ("failed", "deferred_for_retry"))


@dataclass(slots=True)
class EventCounter:
    """Totals by event type: what lies below the watermark is settled, the rest is read again each time.

    `low` is the watermark and `settled` the id it moves to with the next rows; both None until the first answer.
    """

    low: int | None = None
    settled: int | None = None
    is_behind: bool = False
    _totals: Counts = field(default_factory=dict)
    _marks: list[tuple[float, int]] = field(default_factory=list)
    _counted_at: float | None = None

    def prepare(self, now: float) -> None:
        """Choose the ids the next statement reads; monotonic seconds."""
        if self._counted_at is not None and now - self._counted_at > LONGEST_GAP_SECONDS:
            self.low, self._totals, self._marks, self._counted_at = None, {}, [], None
        old_enough = [event for at, event in self._marks if now - at >= OVERLAP_SECONDS]
        self.settled = max([self.low, *old_enough]) if self.low is not None else None

    def count(self, now: float, rows: Iterable[FlowRow], *, read_to: int | None, last_event: int | None) -> Counts:
        """Totals since the counter began; empty for the first answer, which only sets the watermark.

        `read_to` is the last id that was read. It is below `last_event` where a limit was met, and the totals are
        behind until later answers have read the rest.
        """
        newest = last_event or 0
        reached = newest if read_to is None else read_to
        self.is_behind, self._counted_at = reached < newest, now
        if self.low is None or self.settled is None:
            self.low = newest
            self._marks = [(now, newest)]
            return {}
        fresh: Counts = {}
        for is_settled, kind, events in rows:
            counts = self._totals if is_settled else fresh
            counts[kind] = counts.get(kind, 0) + events
        self.low = max(self.low, min(self.settled, reached))
        self._marks = [(at, event) for at, event in self._marks if event > self.low] + [(now, newest)]
        return {kind: self._totals.get(kind, 0) + fresh.get(kind, 0) for kind in self._totals.keys() | fresh.keys()}


@dataclass(slots=True)
class ArrivalCounter:
    """Jobs that became claimable: growth of what is claimable, plus what left it; a due time makes no event."""

    arrived: int = 0
    _before: tuple[int, int] | None = None

    def restart(self, ready: int | None) -> None:
        """Begin to count at zero."""
        self.arrived, self._before = 0, None if ready is None else (ready, 0)

    def count(self, ready: int | None, counts: Counts, *, seen: int, is_behind: bool, is_hidden: bool) -> int:
        """Arrivals since the counter began.

        `seen` are new rows, and those that became due, since the last sample. They are all that is counted above the
        row limit (`ready` is None), and where starts cannot be counted (`is_hidden`). While the events are behind, the
        growth since the last complete sample waits for the next complete one.
        """
        left = counts.get("started", 0) + counts.get("cancelled", 0)
        if ready is None or self._before is None or is_hidden:
            self.arrived += seen
            self._before = None if ready is None or is_behind else (ready, left)
        elif not is_behind:
            self.arrived += max(0, ready - self._before[0] + left - self._before[1])
            self._before = ready, left
        return self.arrived


@dataclass(frozen=True, slots=True)
class Deletions:
    """`is_hiding`: jobs that are done vanish. `gone`: ids used and gone since the last sample, None if they may be
    those of other queues.
    """

    is_hiding: bool
    gone: int | None


@dataclass(slots=True)
class DeletionWatch:
    """Whether the workers delete the jobs they have done: then nothing counts them.

    Ids alone prove nothing, since a refused `queueing_lock` uses one up as well, and other queues may keep their rows.
    What proves it is a job that a live worker had, or was about to take, and that is in the table no more. Jobs that
    are too short for that are noticed by ids that were used and are gone, while rows are being deleted.
    """

    seen: list[int] = field(default_factory=list)
    last_id: int | None = None
    _deleted: int | None = None
    _vanished_at: float | None = None
    _succeeded: int = 0
    _succeeded_at: float | None = None
    _intervals: list[tuple[float, int, int]] = field(default_factory=list)
    _unused: int = 0
    _removed: int = 0
    _gone: int = 0

    def observe(self, now: float, row: Mapping[str, Any], counts: Counts | None) -> Deletions:
        """What one more answer says; `counts` are None while nothing is counted yet."""
        self._record_successes(now, counts)
        if row["vanished"]:
            self._vanished_at = now
        gone = self._count_gone(now, row)
        self.seen = [*(row["running"] or ()), *(row["leaders"] or ())]
        is_ours = not row["has_others"] or row["others_keep"]
        is_hiding = self._has_vanished() or (is_ours and self._is_deleting(now)) or _lacks_rows(row, counts)
        return Deletions(is_hiding, gone if is_ours else None)

    def _record_successes(self, now: float, counts: Counts | None) -> None:
        succeeded = (counts or {}).get("succeeded", 0)
        if succeeded > self._succeeded:
            self._succeeded_at = now
        self._succeeded = succeeded

    def _count_gone(self, now: float, row: Mapping[str, Any]) -> int:
        """Ids used since the last sample that no row has, as far as rows were deleted; deletions are reported late."""
        before, deleted_before = self.last_id, self._deleted
        self.last_id, self._deleted = row["last_id"], row["deleted"]
        if before is None or deleted_before is None or self.last_id is None or self._deleted is None:
            return 0
        is_cut = row["made_anywhere"] >= row["row_limit"]
        unused = 0 if is_cut else max(0, self.last_id - before - row["made_anywhere"])
        self._intervals.append((now, unused, max(0, self._deleted - deleted_before)))
        self._intervals = [entry for entry in self._intervals if now - entry[0] < DELETED_WINDOW_SECONDS]
        self._unused, self._removed = self._unused + unused, self._removed + self._intervals[-1][2]
        recent = sum(entry[1] for entry in self._intervals if now - entry[0] < STATISTICS_SECONDS)
        gone = max(self._gone, min(self._unused, self._removed + recent))
        self._gone, fresh = gone, gone - self._gone
        return fresh

    def _has_vanished(self) -> bool:
        """A success that is counted later says that jobs are kept after all."""
        if self._vanished_at is None:
            return False
        return self._succeeded_at is None or self._succeeded_at <= self._vanished_at

    def _is_deleting(self, now: float) -> bool:
        if self._succeeded_at is not None and now - self._succeeded_at < DELETED_WINDOW_SECONDS:
            return False
        gone, deleted = (sum(entry[part] for entry in self._intervals) for part in (1, 2))
        busy = sum(entry[2] > 0 for entry in self._intervals)
        return min(gone, deleted) >= DELETED_LEAST and busy >= DELETED_INTERVALS


def _lacks_rows(row: Mapping[str, Any], counts: Counts | None) -> bool:
    """True where rows below the oldest running job are gone and no success was ever seen."""
    oldest_running = row["oldest_running"]
    if oldest_running is None or oldest_running <= KEPT_ROWS or (counts or {}).get("succeeded", 0) > 0:
        return False
    return bool(row["kept_before"] < KEPT_SHARE * KEPT_ROWS)
