"""The probe of procrastinate's tables: what the statement returned, made into one sample.

Traps of this library: a job has no time of creation (its `deferred` event has it), and finished jobs stay in the
table. A lock lets one job at a time through, a dead worker's jobs stay `doing`, and `delete_jobs` removes completions.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from headroom.adapters.postgres.queues.preflight import LibraryTables, find_schema
from headroom.adapters.postgres.queues.procrastinate_sql import ALL_QUEUES, ONE_QUEUE, SAMPLE, SOME_QUEUES
from headroom.errors import PrimaryUnavailable, Refused, SignalUnavailable
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.signals import SqlRunner
from headroom.reasons import Reason

TABLES = LibraryTables(
    library="procrastinate",
    columns={
        "procrastinate_jobs": frozenset(
            {"id", "queue_name", "status", "lock", "priority", "scheduled_at", "worker_id"}
        ),
        "procrastinate_events": frozenset({"id", "job_id", "type", "at"}),
        "procrastinate_workers": frozenset({"id", "last_heartbeat"}),
    },
    install="apply the schema of procrastinate 3 there (procrastinate schema --apply, or its migrations)",
)
ROW_LIMIT = 50_001
"""Open rows read at most, about 40 ms of the server's CPU: counting a backlog is load of its own."""
EVENT_LIMIT = 100_000
HEARTBEAT_SECONDS = 30.0
"""procrastinate's own default after which a worker counts as stalled."""
KEPT_ROWS = 200
KEPT_SHARE = 0.75
"""Rows looked at just below the oldest running job, and the share of them that exists unless jobs are deleted."""
TOO_SLOW = (
    "the probe of procrastinate's tables took too long; run: CREATE INDEX CONCURRENTLY ON {schema}.procrastinate_jobs "
    "(queue_name, id) WHERE status = 'todo'; and see that the table is vacuumed"
)
OVERLAP_SECONDS = 5.0
"""Events are counted again for this long: a transaction that began earlier may commit a smaller id later."""
LONGEST_GAP_SECONDS = 60.0
"""After a longer silence the counts begin at zero again, so that a statement never has to read an hour of events."""

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


@dataclass(slots=True)
class ProcrastinateProbe:
    """Implements `QueueProbe`; empty `queues` are all of them, no `schema` is wherever the tables are."""

    runner: SqlRunner
    queues: Sequence[str] = ()
    schema: str | None = None
    _found: str | None = None
    _events: EventCounter = field(default_factory=EventCounter)
    _heads: dict[int, float] = field(default_factory=dict)
    _ready_before: int | None = None
    _arrived: int = 0
    _counts_before: Counts = field(default_factory=dict)

    async def sample(self, question: QueueQuestion) -> QueueSample:
        """See `QueueProbe.sample`."""
        if self._found is None:
            self._found = await find_schema(self.runner, TABLES, self.schema)
        self._events.prepare(question.asked_at)
        row = await self._ask(question, self._found)
        return self._to_sample(question, row)

    async def _ask(self, question: QueueQuestion, schema: str) -> Mapping[str, Any]:
        try:
            rows = await self.runner.query(self._statement(schema), self._parameters(question))
        except (PrimaryUnavailable, Refused, SignalUnavailable) as error:
            await self._raise_why(schema, error)
            raise
        return rows[0]

    async def _raise_why(self, schema: str, error: PrimaryUnavailable | Refused | SignalUnavailable) -> None:
        """Raise a better reason than the server's code where the catalogs have one; the error itself stands else."""
        self._found = None
        if error.reason in (Reason.QUERY_FAILED, Reason.MISSING_RIGHT, Reason.QUEUE_NOT_FOUND):
            self._found = await find_schema(self.runner, TABLES, self.schema)
        if error.reason in (Reason.PRIMARY_TIMEOUT, Reason.QUERY_TIMEOUT):
            message = TOO_SLOW.format(schema=sql.Identifier(schema).as_string(None))
            raise SignalUnavailable(message, reason=Reason.QUERY_TIMEOUT) from error

    def _statement(self, schema: str) -> str:
        is_ours = (ALL_QUEUES, ONE_QUEUE)[len(self.queues)] if len(self.queues) < 2 else SOME_QUEUES
        return sql.SQL(SAMPLE).format(schema=sql.Identifier(schema), is_ours=sql.SQL(is_ours)).as_string(None)

    def _parameters(self, question: QueueQuestion) -> dict[str, Any]:
        return {
            "queue": self.queues[0] if self.queues else None,
            "queues": list(self.queues),
            "lead_time": question.lead_time_seconds,
            "target_lag": question.target_lag_seconds,
            "row_limit": ROW_LIMIT,
            "event_limit": EVENT_LIMIT,
            "heartbeat": HEARTBEAT_SECONDS,
            "kept_rows": KEPT_ROWS,
            "low": self._events.low,
            "settled": self._events.settled,
        }

    def _to_sample(self, question: QueueQuestion, row: Mapping[str, Any]) -> QueueSample:
        now = question.asked_at
        heads = self._waits_of(_parse_pairs(row["heads"]), now)
        late_heads = sum(1 for age in heads if age > question.target_lag_seconds)
        counts = self._events.count(now, _parse_flow(row["flow"]), row["last_event"])
        is_hidden = hides_completions(row["oldest_running"], row["kept_before"], counts)
        arrived = self._count_arrivals(row, counts)
        return QueueSample(
            taken_at=now,
            lag_seconds=max([0.0, _age(row), *heads]),
            backlog=row["free"] + row["next"],
            late=_late(row) + late_heads,
            in_flight=row["in_flight"],
            arrived=None if is_hidden else arrived,
            ended=None if is_hidden or counts is None else _ended(counts),
            failed=None if is_hidden or counts is None else _failed(counts),
            due_soon=row["due_soon"],
            blocked=row["barred"],
            blocked_seconds=max(0.0, row["oldest_barred"] or 0.0),
            phantoms=row["phantoms"],
            is_truncated=row["is_truncated"],
            hides_completions=is_hidden,
        )

    def _waits_of(self, heads: Sequence[tuple[int, float | None]], now: float) -> list[float]:
        """How long the next job of each lock has waited *for a worker*: not longer than we have seen it be next.

        Its age would also hold the time it waited for its predecessor, which no further worker could shorten.
        """
        self._heads = {job: self._heads.get(job, now) for job, _ in heads}
        return [min(age or 0.0, now - self._heads[job]) for job, age in heads]

    def _count_arrivals(self, row: Mapping[str, Any], counts: Counts | None) -> int | None:
        """Jobs that became ready: growth of what is ready, plus what left it; due times make no event."""
        ready = None if row["is_truncated"] else row["free"] + row["next"] + row["barred"]
        before, self._ready_before = self._ready_before, ready
        past, self._counts_before = self._counts_before, counts or {}
        if counts is None:
            self._arrived = 0
            return 0
        since = {kind: counts[kind] - past.get(kind, 0) for kind in counts}
        if ready is None or before is None:
            self._arrived += max(0, since.get("deferred", 0))
        else:
            self._arrived += max(0, ready - before + since.get("started", 0) + since.get("cancelled", 0))
        return self._arrived


def hides_completions(oldest_running: int | None, kept_before: int, counts: Counts | None) -> bool:
    """True where rows below the oldest running job are gone and no success was ever seen: finished jobs are deleted.

    Ids alone prove nothing: a refused `queueing_lock` uses one up as well.
    """
    if oldest_running is None or oldest_running <= KEPT_ROWS or (counts or {}).get("succeeded", 0) > 0:
        return False
    return kept_before < KEPT_SHARE * KEPT_ROWS


def _age(row: Mapping[str, Any]) -> float:
    if row["oldest"] is None and row["free"] > 0:
        message = (
            "waiting jobs have no `deferred` event, so their age is unknown: do not delete from procrastinate_events"
        )
        raise SignalUnavailable(message, reason=Reason.QUERY_NO_ROW)
    return float(row["oldest"] or 0.0)


def _late(row: Mapping[str, Any]) -> int:
    """Late jobs, from the share of them among about 200 that were looked up."""
    if not row["spread"]:
        return 0
    return round(int(row["free"]) * int(row["spread_late"]) / int(row["spread"]))


def _ended(counts: Counts) -> int:
    return sum(counts.get(kind, 0) for kind in ("succeeded", "failed", "aborted", "deferred_for_retry"))


def _failed(counts: Counts) -> int:
    return sum(counts.get(kind, 0) for kind in ("failed", "deferred_for_retry"))


def _parse_pairs(value: object) -> list[tuple[int, float | None]]:
    return [(int(job), age) for job, age in _parse_json(value)]


def _parse_flow(value: object) -> list[tuple[bool, str, int]]:
    return [(bool(is_settled), str(kind), int(events)) for is_settled, kind, events in _parse_json(value)]


def _parse_json(value: object) -> list[Any]:
    parsed = json.loads(value) if isinstance(value, str) else value
    return parsed if isinstance(parsed, list) else []
