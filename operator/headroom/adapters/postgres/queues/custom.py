"""A queue by the user's own SQL: one statement for each number, each must return one row with one number."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from headroom.api.v1alpha1.queue import CustomQueries
from headroom.errors import PrimaryUnavailable, SignalUnavailable
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.signals import SqlRunner
from headroom.reasons import Reason

FIELD = "queue.postgres.custom"
NO_ARRAY = "not an array of names or addresses without NULL: use array_agg"
STRAY_PERCENT = re.compile(r"%(?!\(target_lag\)s)")
MOST_AGE_SECONDS = 1e10
"""An age of more than 300 years is not in seconds."""
MOST_ITEMS = 10**15
"""More than a thousand tables can hold: 2 ** 32 pages with 291 rows each."""
MOST_COUNT = 2**63 - 1
"""What a counter may have come to: a bigint."""
EARLY_SECONDS = 5.0
"""A row may be younger than the statement that reads it, and clocks differ a little: so far below 0 an age is 0."""
EARLY_KEPT_SECONDS = 600.0
"""An age farther below 0 is reported for ten minutes: an empty queue does not disprove it."""


@dataclass(slots=True)
class EarlyAge:
    """How far below 0 the age of the oldest item was at most, and when that was last seen (monotonic seconds)."""

    seconds: float = 0.0
    seen_at: float = -math.inf

    def see(self, age: float, now: float) -> float:
        """The seconds that are worth a word now, after one more age; 0 while there are none."""
        if now - self.seen_at > EARLY_KEPT_SECONDS:
            self.seconds = 0.0
        if age < -EARLY_SECONDS:
            self.seconds, self.seen_at = max(self.seconds, -age), now
        return self.seconds


@dataclass(slots=True)
class CustomProbe:
    """Implements `QueueProbe` over the statements of a spec."""

    queries: CustomQueries
    runner: SqlRunner
    _early: EarlyAge = field(default_factory=EarlyAge)

    @property
    def channels(self) -> tuple[str, ...]:
        """See `QueueProbe.channels`."""
        return ()

    async def sample(self, question: QueueQuestion) -> QueueSample:
        """See `QueueProbe.sample`; raises SignalUnavailable that names the field and what to change."""
        queries = self.queries
        age = read_age(f"{FIELD}.lagQuery", await self._rows("lagQuery", queries.lag_query))
        return QueueSample(
            taken_at=question.asked_at,
            lag_seconds=max(0.0, age),
            early_seconds=self._early.see(age, question.asked_at),
            backlog=await self._count("backlogQuery", queries.backlog_query, most=MOST_ITEMS) or 0,
            late=await self._late(question) or 0,
            in_flight=await self._count("inFlightQuery", queries.in_flight_query, most=MOST_ITEMS),
            arrived=await self._count("arrivalsQuery", queries.arrivals_query),
            ended=await self._count("completionsQuery", queries.completions_query),
            failed=await self._count("failuresQuery", queries.failures_query),
            busy_hosts=await self._hosts("busyWorkersQuery", queries.busy_workers_query),
        )

    async def _late(self, question: QueueQuestion) -> int | None:
        sql = self.queries.late_backlog_query
        if sql is not None and STRAY_PERCENT.search(sql.replace("%%", "")):
            message = f"{FIELD}.lateBacklogQuery: write %% for a percent sign; %(target_lag)s is the only parameter"
            raise SignalUnavailable(message, reason=Reason.QUERY_FAILED)
        return await self._count("lateBacklogQuery", sql, {"target_lag": question.target_lag_seconds}, most=MOST_ITEMS)

    async def _count(
        self, name: str, sql: str | None, parameters: Mapping[str, Any] | None = None, *, most: int = MOST_COUNT
    ) -> int | None:
        return None if sql is None else read_count(f"{FIELD}.{name}", await self._rows(name, sql, parameters), most)

    async def _hosts(self, name: str, sql: str | None) -> frozenset[str] | None:
        if sql is None:
            return None
        try:
            rows = await self._rows(name, sql)
        except SignalUnavailable as error:
            if error.reason is not Reason.QUERY_NOT_A_NUMBER:
                raise
            # The type of its column was refused before any row was fetched.
            raise _refusal(f"{FIELD}.{name}", Reason.QUERY_NO_ARRAY, f"is {NO_ARRAY}") from error
        return read_hosts(f"{FIELD}.{name}", rows)

    async def _rows(self, name: str, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        try:
            return await self.runner.query(sql, parameters)
        except (SignalUnavailable, PrimaryUnavailable) as error:
            if isinstance(error, PrimaryUnavailable) and error.reason is not Reason.ANSWER_REFUSED:
                raise
            message = f"{FIELD}.{name}: {error}"
            raise SignalUnavailable(message, reason=error.reason, retry_after=error.retry_after) from error


def read_age(name: str, rows: list[dict[str, Any]]) -> float:
    """The one number of one row, in seconds, below 0 for an item of a later time than the database's.

    Raises SignalUnavailable that says what came instead and how to correct it.
    """
    age = float(_read_number(name, rows))
    if abs(age) > MOST_AGE_SECONDS:
        message = f"returned {age:g}, which is no age in seconds: write extract(epoch FROM now() - min(...))"
        raise _refusal(name, Reason.QUERY_NOT_A_NUMBER, message)
    return age


def read_count(name: str, rows: list[dict[str, Any]], most: int) -> int:
    """The one number of one row, a count from 0 to `most`, without its fraction; raises as `read_age` does."""
    count = math.floor(_read_number(name, rows))
    if count < 0:
        raise _refusal(name, Reason.QUERY_NOT_A_NUMBER, f"returned {count}: a number of 0 or more is needed")
    if count > most:
        raise _refusal(name, Reason.QUERY_NOT_A_NUMBER, f"returned {count:g}: a count is at most {most:g}")
    return count


def read_hosts(name: str, rows: list[dict[str, Any]]) -> frozenset[str]:
    """The one array of texts or addresses of one row; raises as `read_age` does."""
    value = _read_value(name, rows)
    if not isinstance(value, list) or any(
        host is None or isinstance(host, int | float | dict | list) for host in value
    ):
        message = f"returned {type(value).__name__}, {NO_ARRAY}"
        raise _refusal(name, Reason.QUERY_NO_ARRAY, message)
    return frozenset(str(host) for host in value)


def _read_value(name: str, rows: list[dict[str, Any]]) -> object:
    if not rows:
        raise _refusal(name, Reason.QUERY_NO_ROW, "returned no row: select an aggregate, which always returns one")
    if len(rows) > 1:
        raise _refusal(name, Reason.QUERY_MANY_ROWS, "returned more than one row: aggregate to one, or add LIMIT 1")
    values = list(rows[0].values())
    if len(values) != 1:
        raise _refusal(name, Reason.QUERY_NOT_A_NUMBER, f"returned {len(values)} columns: select one")
    return values[0]


def _read_number(name: str, rows: list[dict[str, Any]]) -> int | float | Decimal:
    value = _read_value(name, rows)
    if value is None:
        raise _refusal(name, Reason.QUERY_NO_ROW, "returned NULL: wrap the expression in coalesce(..., 0)")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        message = f"returned {type(value).__name__}, not a number; for an age write extract(epoch from ...)"
        raise _refusal(name, Reason.QUERY_NOT_A_NUMBER, message)
    if not math.isfinite(value):
        # A numeric has up to 131,072 digits: what no float can hold is infinite in the message as well.
        told = "NaN" if math.isnan(value) else str(float(value))
        raise _refusal(name, Reason.QUERY_NOT_A_NUMBER, f"returned {told}: a number is needed")
    return value


def _refusal(name: str, reason: Reason, message: str) -> SignalUnavailable:
    return SignalUnavailable(f"{name} {message}", reason=reason)
