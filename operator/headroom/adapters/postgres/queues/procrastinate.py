"""The probe of procrastinate's tables: what the statement returned, made into one sample.

Traps of this library: a job has no time of creation (its `deferred` event has it), and finished jobs stay in the
table. A lock lets one job at a time through, whatever the queues of the others are and however late they are due. A
claim skips rows that a transaction has locked, a dead worker's jobs stay `doing`, `delete_jobs` removes completions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from psycopg import sql

from headroom.adapters.postgres.queues.blockers import describe_timeout
from headroom.adapters.postgres.queues.job_times import JOB_TIMES, JobTimes
from headroom.adapters.postgres.queues.preflight import FoundTables, LibraryTables, find_tables
from headroom.adapters.postgres.queues.procrastinate_counts import (
    KEPT_ROWS,
    ArrivalCounter,
    Counts,
    Deletions,
    DeletionWatch,
    EventCounter,
    count_ended,
    count_failed,
    parse_flow,
    parse_json,
)
from headroom.adapters.postgres.queues.procrastinate_sql import (
    ALL_QUEUES,
    LEAN_LIMITS,
    LIMITS,
    ONE_QUEUE,
    OWN_PARAMETERS,
    SAMPLE,
    SOME_QUEUES,
)
from headroom.adapters.postgres.queues.sharing import SharedQuestions, SharedStatement
from headroom.adapters.postgres.values import WHERE, read_plain, read_text, read_whole, understood
from headroom.errors import PrimaryUnavailable, Refused, SignalUnavailable
from headroom.model.queue import QueueQuestion, QueueSample, StuckItem, WaitingItem
from headroom.ports.signals import SqlRunner
from headroom.reasons import Reason

TABLES = LibraryTables(
    library="procrastinate",
    columns={
        "procrastinate_jobs": frozenset(
            {"id", "queue_name", "status", "lock", "priority", "scheduled_at", "worker_id", "xmax"}
        ),
        "procrastinate_events": frozenset({"id", "job_id", "type", "at"}),
        "procrastinate_workers": frozenset({"id", "last_heartbeat"}),
    },
    install="apply the schema of procrastinate 3 there (procrastinate schema --apply, or its migrations)",
)
HEARTBEAT_SECONDS = 30.0
"""procrastinate's own default after which a worker counts as stalled."""
MOST_ELDEST = 50
LEAN_SECONDS = 60.0
"""A server that did not answer in time is asked for less for so long."""
_TIMEOUTS = (Reason.PRIMARY_TIMEOUT, Reason.QUERY_TIMEOUT)
QUEUE_CHANNEL, ANY_CHANNEL = "procrastinate_queue_v1#", "procrastinate_any_queue_v1"


@dataclass(slots=True)
class ProcrastinateProbe:
    """Implements `QueueProbe`; empty `queues` are all of them, no `schema` is wherever the tables are. `times` belongs
    to the connection, by schema.
    """

    runner: SqlRunner
    queues: Sequence[str] = ()
    schema: str | None = None
    questions: SharedQuestions | None = None
    times: dict[str, JobTimes] = field(default_factory=dict)
    _found: FoundTables | None = None
    _events: EventCounter = field(default_factory=EventCounter)
    _arrivals: ArrivalCounter = field(default_factory=ArrivalCounter)
    _deletions: DeletionWatch = field(default_factory=DeletionWatch)
    _heads: dict[int, float] = field(default_factory=dict)
    _transactions: list[str] = field(default_factory=list)
    _due_soon: int = 0
    _lean_until: float = -inf
    _last_job: int | None = None
    _sampled_at: str | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """See `QueueProbe.channels`; a trigger of the library notifies for each row that is inserted to wait."""
        return tuple(f"{QUEUE_CHANNEL}{queue}" for queue in self.queues) or (ANY_CHANNEL,)

    async def sample(self, question: QueueQuestion) -> QueueSample:
        """See `QueueProbe.sample`."""
        if self._found is None:
            self._found = await find_tables(self.runner, TABLES, self.schema)
        found = self._found
        self._events.prepare(question.asked_at)
        row = await self._ask(question, found)
        with understood(WHERE):
            sample = self._to_sample(question, read_plain(row))
        times = self.times.setdefault(found.tables.schema, JobTimes())
        if self.questions is not None and sample.lag_seconds <= question.target_lag_seconds:
            # While the queue is late, no worker goes, and the sample is urgent.
            statement = SharedStatement(self._fill(JOB_TIMES, found), {}, found.tables)
            await times.measure(self.questions, statement, question, heartbeat_seconds=HEARTBEAT_SECONDS)
        job_seconds, in_hand = times.ended_within(self.queues), times.running_for(self.queues)
        return replace(sample, job_seconds=job_seconds, in_hand_seconds=in_hand)

    async def _ask(self, question: QueueQuestion, found: FoundTables) -> Mapping[str, Any]:
        """The answer; a server that had no time for it is asked for less, at once and for a minute."""
        is_lean = question.asked_at < self._lean_until
        try:
            return await self._ask_once(question, found, is_lean=is_lean)
        except (PrimaryUnavailable, Refused, SignalUnavailable) as error:
            if error.reason not in _TIMEOUTS or is_lean:
                await self._raise_why(found.tables.schema, error)
                raise
            self._lean_until = question.asked_at + LEAN_SECONDS
        return await self._ask(question, found)

    async def _ask_once(self, question: QueueQuestion, found: FoundTables, *, is_lean: bool) -> Mapping[str, Any]:
        if self.questions is None:
            self.questions = SharedQuestions(self.runner)
        statement = SharedStatement(self._fill(SAMPLE, found), OWN_PARAMETERS, found.tables)
        parameters = self._parameters(question, is_lean=is_lean)
        row = await self.questions.ask(statement, parameters, asker=id(self), within_seconds=question.within_seconds)
        if not is_lean:
            self._due_soon = row["due_soon"]
        return row

    async def _raise_why(self, schema: str, error: PrimaryUnavailable | Refused | SignalUnavailable) -> None:
        """Raise a better reason than the server's code where the catalogs have one; the error itself stands else."""
        self._found = None
        if error.reason in (Reason.QUERY_FAILED, Reason.MISSING_RIGHT, Reason.QUEUE_NOT_FOUND):
            self._found = await find_tables(self.runner, TABLES, self.schema)
        if error.reason in _TIMEOUTS:
            found = await describe_timeout(self.runner, _jobs_of(schema), "queue_name, id")
            if found is not None:
                raise found from error

    def _fill(self, text: str, found: FoundTables) -> str:
        is_ours = (ALL_QUEUES, ONE_QUEUE)[len(self.queues)] if len(self.queues) < 2 else SOME_QUEUES
        schema = found.tables.schema
        names = {
            "schema": sql.Identifier(schema).as_string(None),
            "table": sql.Literal(_jobs_of(schema)).as_string(None),
            "status": found.types["procrastinate_jobs"]["status"],
            "event": found.types["procrastinate_events"]["type"],
        }
        parts = {name: sql.SQL(value.replace("%", "%%")) for name, value in names.items()}
        return sql.SQL(text).format(**parts, is_ours=sql.SQL(is_ours)).as_string(None)

    def _parameters(self, question: QueueQuestion, *, is_lean: bool) -> dict[str, Any]:
        return {
            "queue": self.queues[0] if self.queues else None,
            "queues": list(self.queues),
            "lead_time": None if is_lean else question.lead_time_seconds,
            "target_lag": question.target_lag_seconds,
            **(LEAN_LIMITS if is_lean else LIMITS),
            "heartbeat": HEARTBEAT_SECONDS,
            "kept_rows": KEPT_ROWS,
            "low": self._events.low,
            "settled": self._events.settled,
            "last_job": self._last_job,
            "last_id": self._deletions.last_id,
            "seen": self._deletions.seen,
            "transactions": self._transactions,
            "sampled_at": self._sampled_at,
        }

    def _to_sample(self, question: QueueQuestion, row: Mapping[str, Any]) -> QueueSample:
        now = question.asked_at
        waits = self._waits_of(_parse_pairs(row["heads"]), now)
        counts = self._count_events(now, row)
        deletions = self._deletions.observe(now, row, counts)
        arrived = self._count_arrivals(row, counts, deletions)
        is_hidden = deletions.is_hiding
        self._transactions, self._last_job = row["transactions"], row["last_job"] or 0
        self._sampled_at = row["sampled_at"]
        return QueueSample(
            taken_at=now,
            lag_seconds=max([0.0, _age(row), *(item.seconds for item in waits)]),
            backlog=row["free"] + row["next"],
            late=_late(row, question.target_lag_seconds)
            + sum(item.seconds > question.target_lag_seconds for item in waits),
            in_flight=row["in_flight"],
            arrived=arrived,
            ended=None if is_hidden or counts is None else count_ended(counts),
            failed=None if arrived is None or counts is None else count_failed(counts),
            due_soon=self._due_soon,
            blocked=row["locked"] - row["next"] + row["held"],
            blocked_seconds=max(0.0, row["oldest_barred"] or 0.0),
            phantoms=row["phantoms"],
            is_truncated=row["is_truncated"] or row["has_more_locks"],
            hides_completions=is_hidden,
            leading=tuple(row["leaders"] or ()),
            eldest=_find_eldest(row, waits),
            stuck=tuple(_parse_stuck(entry) for entry in parse_json(row["stuck"])),
        )

    def _waits_of(self, heads: Sequence[tuple[int, float | None]], now: float) -> list[WaitingItem]:
        """How long the next job of each lock has waited *for a worker*: not longer than we have seen it be next.

        Its age would also hold the time it waited for its predecessor, which no further worker could shorten.
        """
        self._heads = {job: self._heads.get(job, now) for job, _ in heads}
        return [WaitingItem(job, max(0.0, min(age or 0.0, now - self._heads[job]))) for job, age in heads]

    def _count_events(self, now: float, row: Mapping[str, Any]) -> Counts | None:
        """Totals by type; None for the answer with which they begin at zero."""
        is_first = self._events.low is None
        flow = parse_flow(row["flow"])
        counts = self._events.count(now, flow, read_to=row["read_to"], last_event=row["last_event"])
        return None if is_first else counts

    def _count_arrivals(self, row: Mapping[str, Any], counts: Counts | None, deletions: Deletions) -> int | None:
        """Jobs that became claimable. One that waits for its lock has not; one whose row is locked had before."""
        is_cut = row["is_truncated"] or row["has_more_held"]
        ready = None if is_cut else row["free"] + row["next"] + row["held"]
        if counts is None:
            self._arrivals.restart(ready)
            return None if deletions.is_hiding else 0
        seen = row["made"] + row["became_due"] + (deletions.gone or 0 if deletions.is_hiding else 0)
        arrived = self._arrivals.count(
            ready, counts, seen=seen, is_behind=self._events.is_behind, is_hidden=deletions.is_hiding
        )
        return None if deletions.is_hiding and deletions.gone is None else arrived


def _parse_stuck(entry: Sequence[Any]) -> StuckItem:
    """Numbers alone: they are put into a statement that a person runs on the server."""
    job, holder, is_prepared = entry
    return StuckItem(read_whole(job), int(read_text(holder)), is_prepared=is_prepared is True)


def _jobs_of(schema: str) -> str:
    return sql.Identifier(schema, "procrastinate_jobs").as_string(None)


def _find_eldest(row: Mapping[str, Any], waits: Sequence[WaitingItem]) -> tuple[WaitingItem, ...]:
    found = {job: WaitingItem(job, max(0.0, age or 0.0)) for job, age in _parse_pairs(row["eldest"])}
    items = sorted([*found.values(), *waits], key=lambda item: item.seconds, reverse=True)
    return tuple(items[:MOST_ELDEST])


def _age(row: Mapping[str, Any]) -> float:
    if row["oldest"] is None and row["free"] > 0:
        message = (
            "waiting jobs have no `deferred` event, so their age is unknown: do not delete from procrastinate_events"
        )
        raise SignalUnavailable(message, reason=Reason.QUERY_NO_ROW)
    return float(row["oldest"] or 0.0)


def _late(row: Mapping[str, Any], target: float) -> int:
    """Late jobs, from the share of them among about 200 that were looked up; at least those of the oldest that are."""
    least = sum((age or 0.0) > target for age in dict(_parse_pairs(row["eldest"])).values())
    if not row["spread"]:
        return least
    return max(least, round(int(row["free"]) * int(row["spread_late"]) / int(row["spread"])))


def _parse_pairs(value: object) -> list[tuple[int, float | None]]:
    return [(int(job), age) for job, age in parse_json(value)]
