"""Watches servers for the invariant checker: writes a counter on primaries, and reads it wherever clients could.

Standard input brings one JSON line whenever the targets change:
`{"logins": {owner|monitor|reader: {user, password}}, "linger": seconds,
  "primaries": {key: {host, port, database}}, "members": {key: {..., primary}}, "services": {key: {..., primary}}}`.
Standard output has one JSON line for each sample: `{"kind": primary|member|read|cut|error, "key", ...}`. The end of the
input ends it. A staleness is a lower bound, by one monotonic clock: a server that shows counter n is as old as the
commit of n + 1, counted to the moment before it was asked.
"""

import asyncio
import bisect
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

Target = dict[str, Any]
Row = dict[str, Any]
TABLE = "headroom_witness"
NAME = "headroom/witness/tests/outside"
"""Named like a session of Headroom, and under its role on members: it is neither counted as a client nor ended."""
WRITE_SECONDS, LOOK_SECONDS, READ_SECONDS = 0.5, 1.0, 0.5
ANSWER_SECONDS = 4.0
KEPT_COMMITS = 7200

SET_UP = f"CREATE TABLE IF NOT EXISTS {TABLE} (n bigint NOT NULL); GRANT SELECT ON {TABLE} TO PUBLIC"
WRITE = f"""
WITH changed AS (UPDATE {TABLE} SET n = %(n)s RETURNING n)
INSERT INTO {TABLE} SELECT %(n)s WHERE NOT EXISTS (SELECT FROM {TABLE})
"""
COUNTER = f"SELECT max(n) AS n FROM {TABLE}"
# Functions that fail in recovery stand behind a CASE. pg_walfile_name names the timeline that is written now.
PRIMARY = """
SELECT pg_is_in_recovery() AS in_recovery,
       (SELECT system_identifier FROM pg_control_system())::text AS system_id,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::int END AS timeline,
       (SELECT coalesce(json_agg(json_build_object(
                 'name', slot_name, 'active', active, 'kept', CASE WHEN NOT pg_is_in_recovery() AND wal_status <> 'lost'
                   THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) END)), '[]')
        FROM pg_replication_slots) AS slots,
       (SELECT coalesce(json_agg(application_name), '[]') FROM pg_stat_replication
        WHERE sync_state <> 'async') AS synchronous,
       (SELECT setting::bigint * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS slot_wal_limit
"""
HISTORY = (
    "SELECT pg_read_file('pg_wal/' || lpad(upper(to_hex(%s::int)), 8, '0') || '.history', 0, 65536, true) AS history"
)
MEMBER = """
SELECT pg_is_in_recovery() AS in_recovery,
       (SELECT system_identifier FROM pg_control_system())::text AS system_id,
       (SELECT received_tli FROM pg_stat_get_wal_receiver()) AS received_timeline,
       coalesce((SELECT status FROM pg_stat_get_wal_receiver()) = 'streaming', false) AS streaming,
       pg_last_wal_replay_lsn() - '0/0'::pg_lsn AS position,
       (SELECT coalesce(json_agg(json_build_object(
                 'pid', pid, 'user', usename, 'age', extract(epoch FROM clock_timestamp() - backend_start))), '[]')
        FROM (SELECT * FROM pg_stat_activity
              WHERE backend_type = 'client backend' AND application_name NOT LIKE 'headroom/%'
                AND client_addr IS NOT NULL AND client_addr <> '127.0.0.1' AND client_addr <> '::1'
                AND usesysid NOT IN (SELECT oid FROM pg_roles WHERE rolsuper)
              ORDER BY backend_start LIMIT 50) a) AS sessions
"""


def say(kind: str, key: str, **line: object) -> None:
    """Print a sample."""
    print(json.dumps({"kind": kind, "key": key, **line}, default=float), flush=True)


@dataclass(slots=True)
class Counter:
    """The commits of one primary's counter: numbers and when each was acknowledged."""

    numbers: deque[int] = field(default_factory=lambda: deque(maxlen=KEPT_COMMITS))
    times: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_COMMITS))
    last: int = 0

    def begin(self, found: int) -> int:
        """The next number: above all that were written here or are in the table."""
        self.last = max(self.last, found) + 1
        return self.last

    def commit(self, number: int) -> None:
        """A number is on the primary for sure."""
        self.numbers.append(number)
        self.times.append(time.monotonic())

    def staleness(self, shown: int | None, asked: float) -> float | None:
        """How old a server was when asked that then showed a number; None while nothing is known."""
        if shown is None or not self.numbers:
            return None
        place = bisect.bisect_right(self.numbers, shown)
        return 0.0 if place == len(self.numbers) else max(0.0, asked - self.times[place])


@dataclass(slots=True)
class Witness:
    """The targets and what runs for each."""

    logins: dict[str, Target] = field(default_factory=dict)
    linger_seconds: float = 1.5
    counters: dict[str, Counter] = field(default_factory=dict)
    _tasks: dict[tuple[str, str, str], list[asyncio.Task[None]]] = field(default_factory=dict)

    def aim(self, line: Target) -> None:
        """Start what is new and end what is gone."""
        self.logins = line.get("logins", self.logins)
        self.linger_seconds = line.get("linger", self.linger_seconds)
        watches: dict[str, tuple[Callable[[str, Target], Coroutine[Any, Any, None]], ...]] = {
            "primaries": (self.keep_primary,),
            "members": (self.keep_member,),
            "services": (self.keep_reading, self.keep_lingering),
        }
        wanted = {
            (kind, key, json.dumps(target, sort_keys=True)): target
            for kind in watches
            for key, target in line.get(kind, {}).items()
        }
        for gone in set(self._tasks) - set(wanted):
            for task in self._tasks.pop(gone):
                task.cancel()
        for which, target in wanted.items():
            if which not in self._tasks:
                kind, key, _ = which
                self._tasks[which] = [asyncio.create_task(watch(key, target)) for watch in watches[kind]]

    def connect(self, target: Target, login: str) -> Awaitable[psycopg.AsyncConnection[Row]]:
        """A connection of a role; the reader's looks like any client's."""
        who = self.logins[login]
        return psycopg.AsyncConnection.connect(
            host=target["host"], port=target["port"], dbname=target["database"], user=who["user"],
            password=who["password"], sslmode="prefer", connect_timeout=2, autocommit=True, row_factory=dict_row,
            application_name=NAME if login != "reader" else "shop-reader", prepare_threshold=None,
            tcp_user_timeout=3000,
        )  # fmt: skip

    async def keep_primary(self, key: str, target: Target) -> None:
        """Write the counter and look at slots, twice and once a second."""
        counter = self.counters.setdefault(key, Counter())

        async def hold(connection: psycopg.AsyncConnection[Row]) -> None:
            looked, forks, timeline = 0.0, {}, None
            is_set_up = False
            while True:
                if time.monotonic() - looked >= LOOK_SECONDS:
                    looked = time.monotonic()
                    facts = await first(connection, PRIMARY)
                    if facts["timeline"] is not None and facts["timeline"] != timeline:
                        timeline = facts["timeline"]
                        forks = parse_history((await first(connection, HISTORY, (timeline,)))["history"])
                    say("primary", key, **facts, forks=forks)
                if not facts["in_recovery"]:
                    await write(connection, counter, is_set_up=is_set_up)
                    is_set_up = True
                await asyncio.sleep(WRITE_SECONDS)

        await self._keep("owner", key, target, hold)

    async def keep_member(self, key: str, target: Target) -> None:
        """Look at a member once a second."""
        timeline: int | None = None

        async def hold(connection: psycopg.AsyncConnection[Row]) -> None:
            nonlocal timeline
            while True:
                asked = time.monotonic()
                age = self.counters.setdefault(target["primary"], Counter()).staleness(await shown(connection), asked)
                facts = await first(connection, MEMBER)
                timeline = facts.pop("received_timeline") or timeline
                say("member", key, **facts, timeline=timeline, staleness=age)
                await asyncio.sleep(LOOK_SECONDS)

        await self._keep("monitor", key, target, hold)

    async def keep_reading(self, key: str, target: Target) -> None:
        """Read on a fresh connection each time, as a client that has just started."""
        counter = self.counters.setdefault(target["primary"], Counter())
        while True:
            began = time.monotonic()
            try:
                async with await self.connect(target, "reader") as connection:
                    who = await address(connection)
                    say("read", key, address=who, staleness=counter.staleness(await shown(connection), began))
            except (psycopg.Error, OSError) as error:
                say("error", key, message=f"read: {error}"[:200])
            await asyncio.sleep(READ_SECONDS)

    async def keep_lingering(self, key: str, target: Target) -> None:
        """Run one query after another, each long enough to be met by a scale-in."""
        while True:
            who, began = "", 0.0
            try:
                async with await self.connect(target, "reader") as connection:
                    who, began = await address(connection), time.monotonic()
                    await connection.execute("SELECT pg_sleep(%s)", (self.linger_seconds,))
                    began = 0.0
            except (psycopg.Error, OSError) as error:
                if began:
                    code = getattr(error, "sqlstate", None) or ""
                    ran = time.monotonic() - began
                    say("cut", key, address=who, code=code, message=f"{error}"[:200], ran=ran)
                await asyncio.sleep(READ_SECONDS)
            await asyncio.sleep(0.05)

    async def _keep(
        self, login: str, key: str, target: Target, hold: Callable[[psycopg.AsyncConnection[Row]], Awaitable[None]]
    ) -> None:
        while True:
            try:
                async with await self.connect(target, login) as connection:
                    await connection.execute("SET synchronous_commit = local; SET statement_timeout = '3s'")
                    await hold(connection)
            except (psycopg.Error, OSError, TimeoutError) as error:
                say("error", key, message=f"{login}: {error}"[:200])
            await asyncio.sleep(LOOK_SECONDS)


async def write(connection: psycopg.AsyncConnection[Row], counter: Counter, *, is_set_up: bool) -> None:
    """Commit the next number; the table is made on the way."""
    found = 0
    if not is_set_up:
        await asyncio.wait_for(connection.execute(SET_UP), ANSWER_SECONDS)
        found = await shown(connection) or 0
    number = counter.begin(found)
    await asyncio.wait_for(connection.execute(WRITE, {"n": number}), ANSWER_SECONDS)
    counter.commit(number)


async def first(connection: psycopg.AsyncConnection[Row], statement: str, parameters: tuple[Any, ...] = ()) -> Row:
    """The only row of a statement; TimeoutError if a frozen server holds it back."""
    cursor = await asyncio.wait_for(connection.execute(statement, parameters or None), ANSWER_SECONDS)
    return await cursor.fetchone() or {}


async def shown(connection: psycopg.AsyncConnection[Row]) -> int | None:
    """The counter that a server shows; None before the table has reached it."""
    try:
        found: int | None = (await first(connection, COUNTER))["n"]
    except psycopg.errors.UndefinedTable:
        return None
    return found


async def address(connection: psycopg.AsyncConnection[Row]) -> str:
    """Which server answers."""
    return str((await first(connection, "SELECT host(inet_server_addr()) AS address"))["address"])


def parse_history(text: str | None) -> dict[int, int]:
    """Where each earlier timeline ended, as bytes, from a timeline's history file."""
    forks = {}
    for line in (text or "").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0].isdigit():
            high, low = words[1].split("/")
            forks[int(words[0])] = (int(high, 16) << 32) + int(low, 16)
    return forks


async def main() -> None:
    """Follow the targets until the input ends."""
    witness, lines = Witness(), asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        witness.aim(json.loads(line))


if __name__ == "__main__":
    asyncio.run(main())
