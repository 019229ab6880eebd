"""A queue by the user's own SQL: one statement for each number, each must return one row with one number."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(slots=True)
class CustomProbe:
    """Implements `QueueProbe` over the statements of a spec."""

    queries: CustomQueries
    runner: SqlRunner

    @property
    def channels(self) -> tuple[str, ...]:
        """See `QueueProbe.channels`."""
        return ()

    async def sample(self, question: QueueQuestion) -> QueueSample:
        """See `QueueProbe.sample`; raises SignalUnavailable that names the field and what to change."""
        queries = self.queries
        lag = await self._number("lagQuery", queries.lag_query)
        return QueueSample(
            taken_at=question.asked_at,
            lag_seconds=lag,
            backlog=math.floor(await self._number("backlogQuery", queries.backlog_query)),
            late=await self._late(question) or 0,
            in_flight=await self._count("inFlightQuery", queries.in_flight_query),
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
        return await self._count("lateBacklogQuery", sql, {"target_lag": question.target_lag_seconds})

    async def _count(self, name: str, sql: str | None, parameters: Mapping[str, Any] | None = None) -> int | None:
        return None if sql is None else math.floor(await self._number(name, sql, parameters))

    async def _hosts(self, name: str, sql: str | None) -> frozenset[str] | None:
        if sql is None:
            return None
        try:
            return read_hosts(f"{FIELD}.{name}", await self._rows(name, sql))
        except SignalUnavailable as error:
            if error.reason is not Reason.QUERY_NOT_A_NUMBER:
                raise
            raise _refusal(f"{FIELD}.{name}", Reason.QUERY_NO_ARRAY, f"returned {NO_ARRAY}") from error

    async def _number(self, name: str, sql: str, parameters: Mapping[str, Any] | None = None) -> float:
        return read_number(f"{FIELD}.{name}", await self._rows(name, sql, parameters))

    async def _rows(self, name: str, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        try:
            return await self.runner.query(sql, parameters)
        except (SignalUnavailable, PrimaryUnavailable) as error:
            if isinstance(error, PrimaryUnavailable) and error.reason is not Reason.ANSWER_REFUSED:
                raise
            message = f"{FIELD}.{name}: {error}"
            raise SignalUnavailable(message, reason=error.reason, retry_after=error.retry_after) from error


def read_number(field: str, rows: list[dict[str, Any]]) -> float:
    """The one number of one row; raises SignalUnavailable that says what came instead and how to correct it."""
    return _to_number(field, _read_value(field, rows))


def read_hosts(field: str, rows: list[dict[str, Any]]) -> frozenset[str]:
    """The one array of texts or addresses of one row; raises as `read_number` does."""
    value = _read_value(field, rows)
    if not isinstance(value, list) or any(host is None or isinstance(host, int | float | dict) for host in value):
        message = f"returned {type(value).__name__}, {NO_ARRAY}"
        raise _refusal(field, Reason.QUERY_NO_ARRAY, message)
    return frozenset(str(host) for host in value)


def _read_value(field: str, rows: list[dict[str, Any]]) -> object:
    if not rows:
        raise _refusal(field, Reason.QUERY_NO_ROW, "returned no row: select an aggregate, which always returns one")
    if len(rows) > 1:
        raise _refusal(field, Reason.QUERY_MANY_ROWS, "returned more than one row: aggregate to one, or add LIMIT 1")
    values = list(rows[0].values())
    if len(values) != 1:
        raise _refusal(field, Reason.QUERY_NOT_A_NUMBER, f"returned {len(values)} columns: select one")
    return values[0]


def _to_number(field: str, value: object) -> float:
    if value is None:
        raise _refusal(field, Reason.QUERY_NO_ROW, "returned NULL: wrap the expression in coalesce(..., 0)")
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        message = f"returned {type(value).__name__}, not a number; for an age write extract(epoch from ...)"
        raise _refusal(field, Reason.QUERY_NOT_A_NUMBER, message)
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise _refusal(field, Reason.QUERY_NOT_A_NUMBER, f"returned {number:g}: a number of 0 or more is needed")
    return number


def _refusal(field: str, reason: Reason, message: str) -> SignalUnavailable:
    return SignalUnavailable(f"{field} {message}", reason=reason)
