"""Measurements of queues, wherever they live.

Errors: `SignalUnavailable` with the precise reason and what to do (a missing table, right, row or index), and
`Unavailable` of the source itself (unreachable, wrong password, timeout). No error is ever a zero.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.model.queue import QueueQuestion, QueueSample


@dataclass(frozen=True, slots=True)
class QueueTables:
    """Tables of one schema, and the columns of each that a statement of ours reads; others own them."""

    schema: str
    columns: Mapping[str, Collection[str]]


class SqlRunner(Protocol):
    """Runs read-only statements, bounded in time and rows."""

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a statement of the pool's author, which means what the author's login makes of it."""
        ...

    async def read(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, tables: QueueTables | None = None
    ) -> list[dict[str, Any]]:
        """The rows of a statement of ours over catalogs and these tables, which sees only the names of pg_catalog.

        Raises SignalUnavailable (QueueUnsafe, LoginTooPowerful) where code of the tables' owner could run with it.
        """
        ...


class QueueProbe(Protocol):
    """Samples the queues of one pool; its counts begin when it is opened."""

    @property
    def channels(self) -> Collection[str]:
        """The channels on which the library notifies of a new item in these queues; none if it does not."""
        ...

    async def sample(self, question: QueueQuestion) -> QueueSample:
        """Take one sample."""
        ...


class QueueProbes(Protocol):
    """Opens probes."""

    def open(self, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        """A probe for a library's tables or for SQL of the spec; InvalidSpec for a library it does not know."""
        ...
