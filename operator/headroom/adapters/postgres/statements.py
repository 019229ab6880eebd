"""How a statement is run on an open connection: one row of it, or a bounded read that leaves nothing behind."""

from collections.abc import Mapping
from typing import Any

from headroom.adapters.postgres import sql
from headroom.adapters.postgres.connection import Link, Row


async def fetch_one(link: Link, statement: str, parameters: Mapping[str, Any] | None = None) -> Row:
    """The one row of a statement of ours."""
    cursor = await link.execute(statement, parameters or {})
    row = await cursor.fetchone()
    assert row is not None
    return row


async def read_only(link: Link, statement: str, parameters: Mapping[str, Any] | None, *, limit: int) -> list[Row]:
    """Run one SELECT through a cursor in a read-only transaction that is rolled back; keeps `limit` rows.

    A cursor takes one statement only, and rows beyond the limit never leave the server.
    """
    await link.execute(sql.BEGIN_READ_ONLY)
    try:
        async with link.cursor(name="headroom") as cursor:
            await cursor.execute(statement, parameters)
            return await cursor.fetchmany(limit)
    finally:
        if not link.closed:
            await link.execute(sql.ROLLBACK)
