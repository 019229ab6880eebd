"""The link that reads what is hot in one replica's cache, and reads it into another's.

Each call is a separate transaction: it is read-only, checks what it is about to call, and is rolled back.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from psycopg import errors as pg
from psycopg import sql as quoting

from headroom.adapters.postgres import warmup_sql
from headroom.adapters.postgres.connection import PROBE_OPTIONS, Link, PinnedConnection, fetch_one
from headroom.adapters.postgres.sql import ROLLBACK
from headroom.adapters.postgres.values import read_optional_text, read_text, read_whole
from headroom.adapters.postgres.wire.local import Row
from headroom.errors import PrimaryUnavailable, Refused
from headroom.model.warmup import MOST_RANGES, RANGE_BLOCKS, BlockRange
from headroom.reasons import Reason

WARMUP_OPTIONS: Mapping[str, str] = {**PROBE_OPTIONS, "lock_timeout": "100", "statement_timeout": "2000"}
"""Whoever waits for a lock on a relation holds up all that come after, replay among them."""
CALL_SECONDS = 4.0
READ_MILLISECONDS = 15_000
READING = f"""
SET LOCAL statement_timeout = {READ_MILLISECONDS}; SET LOCAL work_mem = '64MB'; SET LOCAL enable_nestloop = off
"""
"""The planner takes a cache for 1,000 rows: a nested loop would take the product of its blocks and the relations."""
READ_SECONDS = 20.0
"""Reading a cache takes about half a second of a processor for each GiB of it."""
FETCHED_ROWS = 500
MOST_NUMBER = 2**32
"""Above every oid and block number."""
SCRIPT = "headroom-setup.sql with -v warmup=1"
_SKIPPED = (
    pg.LockNotAvailable,
    pg.SerializationFailure,  # a conflict with recovery, which goes first
    pg.UndefinedTable,
    pg.UndefinedObject,
    pg.InvalidParameterValue,  # fewer blocks than a moment ago
    pg.WrongObjectType,
    pg.InternalError_,  # "could not open relation with OID": it was dropped meanwhile
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Schemas:
    """Where the two functions are."""

    buffercache: str
    prewarm: str


@dataclass(slots=True, eq=False)
class PinnedWarmup:
    """Implements `WarmupLink`."""

    connection: PinnedConnection

    async def describe(self) -> tuple[str, int]:
        """See `WarmupLink.describe`."""

        async def work(link: Link, _: _Schemas) -> tuple[str, int]:
            row = await fetch_one(link, warmup_sql.DESCRIBE)
            return read_text(row["server_name"]), read_whole(row["buffers"])

        return await self._run(work, seconds=CALL_SECONDS)

    async def read_hot(self, most_blocks: int) -> tuple[BlockRange, ...]:
        """See `WarmupLink.read_hot`."""
        small, middle, large = warmup_sql.GAPS
        parameters = {
            "usage": warmup_sql.HOT_USAGE,
            "longest": RANGE_BLOCKS,
            "small": small,
            "middle": middle,
            "large": large,
            "most": MOST_RANGES,
            "most_blocks": most_blocks,
        }

        async def work(link: Link, schemas: _Schemas) -> tuple[BlockRange, ...]:
            await link.execute(READING)
            statement = _place(warmup_sql.READ_HOT, schemas.buffercache)
            found: list[BlockRange] = []
            async with link.cursor(name="headroom") as cursor:
                await cursor.execute(statement, parameters)
                while rows := await cursor.fetchmany(FETCHED_ROWS):
                    found += map(_parse_range, rows)
                    _check_bounds(found, most_blocks)
            return tuple(found)

        return await self._run(work, seconds=READ_SECONDS)

    async def warm(self, ranges: Sequence[BlockRange]) -> int | None:
        """See `WarmupLink.warm`."""
        [(relation, file)] = {(each.relation, each.file) for each in ranges}
        parameters = {
            "relation": relation,
            "file": file,
            "firsts": [each.first for each in ranges],
            "lasts": [each.last for each in ranges],
        }

        async def work(link: Link, schemas: _Schemas) -> int | None:
            try:
                row = await fetch_one(link, _place(warmup_sql.WARM, schemas.prewarm), parameters)
            except _SKIPPED:
                return None
            return read_whole(row["blocks"]) if row["is_there"] else None

        return await self._run(work, seconds=CALL_SECONDS)

    async def close(self) -> None:
        """End the connection."""
        await self.connection.close()

    async def _run(self, call: Callable[[Link, _Schemas], Awaitable[T]], *, seconds: float) -> T:
        async def work(link: Link) -> T:
            await link.execute("BEGIN TRANSACTION READ ONLY")
            try:
                schemas = _find_schemas(await fetch_one(link, warmup_sql.CHECK))
                return await call(link, schemas)
            finally:
                if not link.closed:
                    await link.execute(ROLLBACK)

        return await self.connection.run(work, seconds=seconds)


def _place(statement: str, schema: str) -> str:
    """The statement with the name of a schema in it; whatever the name, it is not a placeholder."""
    name = quoting.Identifier(schema).as_string(None).replace("%", "%%")
    return statement.replace("{schema}", name)


def _find_schemas(row: Row) -> _Schemas:
    """Where the functions may be called; raises what `WarmupLink` says."""
    if not row["is_in_recovery"]:
        message = "it is not in recovery: caches are read and filled on replicas only"
        raise PrimaryUnavailable(message, reason=Reason.MEMBER_PROMOTED)
    login = read_text(row["login"])
    if not row["may_read"]:
        message = f"the login {login} is not a member of pg_read_all_data: run {SCRIPT}"
        raise Refused(message, reason=Reason.MISSING_RIGHT)
    return _Schemas(
        _find_schema(row, "pg_buffercache", "buffercache", login), _find_schema(row, "pg_prewarm", "prewarm", login)
    )


def _find_schema(row: Mapping[str, Any], extension: str, name: str, login: str) -> str:
    schema = read_optional_text(row[f"{name}_schema"])
    if schema is None:
        message = f"the database has no extension {extension}: run {SCRIPT}"
        raise Refused(message, reason=Reason.EXTENSION_MISSING)
    if not row[f"is_{name}_own"]:
        message = (
            f"role {read_text(row[f'{name}_owner'])}, which is not a superuser, could replace functions of extension "
            f"{extension}: run ALTER EXTENSION {extension} SET SCHEMA headroom, and {SCRIPT}"
        )
        raise Refused(message, reason=Reason.MISSING_RIGHT)
    if not row[f"may_call_{name}"]:
        message = f"the login {login} may not call the functions of {extension}: run {SCRIPT}"
        raise Refused(message, reason=Reason.MISSING_RIGHT)
    return schema


def _parse_range(row: Row) -> BlockRange:
    found = BlockRange(*(read_whole(row[name]) for name in BlockRange._fields))
    if not all(0 <= number < MOST_NUMBER for number in found) or not 0 < found.blocks <= RANGE_BLOCKS:
        raise ValueError("a range of blocks that no relation has")
    return found


def _check_bounds(found: Sequence[BlockRange], most_blocks: int) -> None:
    if len(found) > MOST_RANGES or sum(each.blocks for each in found) > most_blocks:
        raise ValueError("more ranges of blocks than were asked for")
