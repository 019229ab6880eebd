"""A standby's cache after a warm-up from a serving replica: real servers, and data four times their shared_buffers."""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from headroom.adapters.clock import SystemClock
from headroom.errors import Refused
from headroom.model.database import ConnectionTarget
from headroom.model.replica import Role
from headroom.model.warmup import SHARE_OF_BUFFERS, BlockRange
from headroom.policy.replicaset.replay_lag import measure_replay_lag
from headroom.policy.replicaset.warmup import WarmupState, plan_warmup
from headroom.ports.postgres import Postgres, WarmupLink
from headroom.reconcilers.replicaset.warmer import Place, fill_cache
from tests.postgres_server import APPLICATION, WARMUP, Server, ServerMaker
from tests.unit.policy.replicaset.make import BOUNDS, judge, make_member

ROWS = 60_000
"""1,000 bytes each: some 7,500 blocks, and 2,048 buffers."""
HOT_ROWS = 6_000
HOT = """
SELECT c.oid::int AS relation, b.relblocknumber::int AS block
FROM headroom.pg_buffercache b JOIN pg_class c ON pg_relation_filenode(c.oid) = b.relfilenode
WHERE b.reldatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) AND b.relforknumber = 0
  AND b.usagecount >= 2 AND c.relkind IN ('r', 'i', 't', 'm')
"""
CACHED = HOT.replace("AND b.usagecount >= 2", "")


@dataclass
class Pair:
    """A primary with two replicas: `serving` has been read from, `standby` has not."""

    primary: Server
    serving: Server
    standby: Server

    def place(self, server: Server) -> Place:
        name = server.sql("SELECT current_setting('cluster_name') AS name")[0]["name"]
        return Place(name, server.target(WARMUP))

    def read_hot_rows(self) -> None:
        """What the application reads: one row in ten by its key, and a small table as a whole."""
        for _ in range(4):
            self.serving.sql("SELECT sum(length(f.body)) FROM generate_series(1, %s) AS g, "
                             "LATERAL (SELECT body FROM items WHERE id = g) f", [HOT_ROWS])  # fmt: skip
            self.serving.sql("SELECT count(*) FROM prices")

    def share_of_hot(self) -> float:
        """How much of what is hot on the serving replica the standby has in its cache."""
        hot = {(row["relation"], row["block"]) for row in self.serving.sql(HOT)}
        cached = {(row["relation"], row["block"]) for row in self.standby.sql(CACHED)}
        assert len(hot) > 500, "something is hot"
        return len(hot & cached) / len(hot)

    def find_oid(self, name: str) -> int:
        return int(self.primary.sql("SELECT %s::regclass::oid::int AS oid", [name])[0]["oid"])

    async def fill(self, postgres: Postgres, budget: float = 30.0) -> Any:
        return await fill_cache(postgres, SystemClock(), self.place(self.standby), self.place(self.serving), budget)


def make_data(primary: Server) -> None:
    primary.run_setup_script(warmup="1")
    primary.sql("CREATE TABLE items (id int PRIMARY KEY, body text)")
    primary.sql("INSERT INTO items SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, %s) AS g", [ROWS])
    primary.sql("CREATE TABLE prices AS SELECT g AS id, repeat('p', 500) AS text FROM generate_series(1, 3000) AS g")
    primary.sql("VACUUM ANALYZE")


@pytest.fixture
def pair(servers: ServerMaker) -> Pair:
    primary = servers.make()
    make_data(primary)
    made = [servers.make_replica(primary, settings={"cluster_name": name}) for name in ("store-0-a", "store-1-a")]
    for replica in made:
        replica.wait_for_replay(primary)
    return Pair(primary, *made)


async def test_the_standby_has_what_is_hot_where_readers_are(pair: Pair, postgres: Postgres) -> None:
    pair.read_hot_rows()
    assert pair.share_of_hot() < 0.3, "the standby has read nothing yet"
    warmed = await pair.fill(postgres)
    assert warmed.is_whole
    assert warmed.skipped == 0
    assert warmed.blocks <= SHARE_OF_BUFFERS * 2048
    share = pair.share_of_hot()
    print(f"{share:.0%} of the hot blocks, {warmed.blocks} blocks in {warmed.seconds:.2f} s")
    assert share >= 0.8


async def test_a_locked_table_is_skipped_at_once_and_the_rest_is_read(pair: Pair, postgres: Postgres) -> None:
    pair.read_hot_rows()
    prices = pair.find_oid("prices")
    with pair.primary.connect() as client:
        client.execute("BEGIN")
        client.execute("LOCK TABLE prices IN ACCESS EXCLUSIVE MODE")
        pair.primary.sql("SELECT pg_logical_emit_message(true, 'test', 'flush')")
        pair.standby.wait_for_replay(pair.primary)
        began = time.monotonic()
        # The serving replica has the lock as well: what is hot there is read without one.
        warmed = await pair.fill(postgres)
        took = time.monotonic() - began
    assert warmed.skipped > 0
    assert warmed.is_whole
    cached = {row["relation"] for row in pair.standby.sql(CACHED)}
    assert prices not in cached
    assert pair.find_oid("items") in cached
    assert took < 10, "each table that is locked is waited for once, for 100 ms"
    assert pair.share_of_hot() >= 0.5


async def test_a_large_cache_takes_no_more_than_its_size_in_time(servers: ServerMaker, postgres: Postgres) -> None:
    """16,384 buffers, a third of them hot: a plan that compares all with all takes half a minute."""
    primary = servers.make()
    make_data(primary)
    replica = servers.make_replica(primary, settings={"cluster_name": "store-0-a", "shared_buffers": "128MB"})
    pair = Pair(primary, replica, replica)
    for _ in range(3):
        replica.sql("SELECT sum(length(f.body)) FROM generate_series(1, %s) g, "
                    "LATERAL (SELECT body FROM items WHERE id = g) f", [ROWS])  # fmt: skip
    link = await postgres.open_warmup(pair.place(replica).target)
    began = time.monotonic()
    found = await link.read_hot(100_000)
    assert sum(each.blocks for each in found) > 5_000
    assert time.monotonic() - began < 5.0


class SlowWarmup:
    """A link that rests after each piece."""

    def __init__(self, inner: WarmupLink) -> None:
        self.inner = inner
        self.pieces = 0

    async def describe(self) -> tuple[str, int]:
        return await self.inner.describe()

    async def read_hot(self, most_blocks: int) -> tuple[BlockRange, ...]:
        return await self.inner.read_hot(most_blocks)

    async def warm(self, ranges: Sequence[BlockRange]) -> int | None:
        self.pieces += 1
        await asyncio.sleep(0.3)
        return await self.inner.warm(ranges)

    async def close(self) -> None:
        await self.inner.close()


class SlowPostgres:
    """The adapter with slow links."""

    def __init__(self, inner: Postgres) -> None:
        self.inner = inner
        self.links: list[SlowWarmup] = []

    async def open_warmup(self, target: ConnectionTarget) -> WarmupLink:
        self.links.append(SlowWarmup(await self.inner.open_warmup(target)))
        return self.links[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


async def test_it_stops_when_replay_falls_behind_and_leaves_no_session(pair: Pair, postgres: Postgres) -> None:
    pair.read_hot_rows()
    slow: Any = SlowPostgres(postgres)
    run = asyncio.create_task(pair.fill(slow))
    try:
        await until(lambda: slow.links and slow.links[0].pieces >= 2)
        assert await decide_stop(pair, postgres) == {}
        # Replay stands still, and the primary goes on.
        pair.standby.sql("SELECT pg_wal_replay_pause()")
        pair.primary.sql("SELECT pg_logical_emit_message(true, 'test', repeat('x', 8000))")
        began = time.monotonic()

        async def has_fallen_behind() -> bool:
            found = await decide_stop(pair, postgres, since=began)
            return "its replay fell behind" in found.get("store-5-a", "")

        await until(has_fallen_behind)
        assert time.monotonic() - began < 5.0
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run
        pieces = slow.links[0].pieces
        await until(lambda: not sessions_of_warmup(pair.standby))
        assert slow.links[0].pieces == pieces
    finally:
        run.cancel()
        pair.standby.sql("SELECT pg_wal_replay_resume()")


_marks: list[Any] = []


async def decide_stop(pair: Pair, postgres: Postgres, since: float | None = None) -> dict[str, str]:
    """What the policy says of a run, with a real reading."""
    primary = await postgres.open_primary(pair.primary.target())
    replica = await postgres.open_replica(pair.standby.target())
    try:
        if since is None:
            _marks.clear()
        _marks.append(await primary.mark())
        await asyncio.sleep(0.1)
        lag = measure_replay_lag(_marks, await replica.probe(), SystemClock().monotonic())
    finally:
        await primary.close()
        await replica.close()
    members = judge(make_member(Role.SERVING), dataclasses.replace(make_member(Role.STANDBY, 5), lag=lag))
    running = {"store-5-a": WarmupState(is_running=True)}
    return dict(plan_warmup(members, running, BOUNDS, (), 0.0).stop)


def sessions_of_warmup(server: Server) -> list[Any]:
    return server.sql("SELECT pid FROM pg_stat_activity WHERE usename = %s", [WARMUP.username])


async def until(look: Callable[[], Any | Awaitable[Any]]) -> None:
    end = time.monotonic() + 15
    while True:
        found = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < end, "it did not happen within 15 s"
        await asyncio.sleep(0.05)


@pytest_asyncio.fixture
async def lone(servers: ServerMaker, primary: Server) -> Pair:
    """One replica is enough to see what is called."""
    primary.run_setup_script(warmup="1")
    replica = servers.make_replica(primary, settings={"cluster_name": "store-0-a"})
    return Pair(primary, replica, replica)


OVERLOADS = ("regclass, text, text, int, int", "oid, text, text, bigint, bigint", "regclass, text, text, bigint, int")


async def test_no_function_of_others_is_called_in_their_place(lone: Pair, postgres: Postgres) -> None:
    """A role that may create in the schema makes overloads that fit better to literals, and views over the cache."""
    lone.primary.sql(f"GRANT ALL ON SCHEMA headroom TO {APPLICATION.username}")
    with lone.primary.connect(APPLICATION.username, APPLICATION.password) as client:
        for types in OVERLOADS:
            client.execute(
                f"CREATE FUNCTION headroom.pg_prewarm({types}) RETURNS bigint LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE 'ours'; END $$"
            )
        client.execute(
            "CREATE FUNCTION headroom.pg_buffercache_pages(int) RETURNS SETOF record LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'ours'; END $$"
        )
        client.execute("CREATE TABLE headroom.one (id int)")
        client.execute("INSERT INTO headroom.one VALUES (1)")
    oid = lone.find_oid("headroom.one")
    [row] = lone.primary.sql("SELECT pg_relation_filenode('headroom.one')::int AS file")
    lone.standby.wait_for_replay(lone.primary)
    link = await postgres.open_warmup(lone.standby.target(WARMUP))
    assert await link.warm([BlockRange(oid, row["file"], 0, 0)]) == 1
    assert isinstance(await link.read_hot(1000), tuple)


async def test_an_extension_in_a_schema_that_another_role_can_replace_is_refused(
    lone: Pair, postgres: Postgres
) -> None:
    lone.primary.sql(f"CREATE SCHEMA theirs AUTHORIZATION {APPLICATION.username}")
    lone.primary.sql("ALTER EXTENSION pg_prewarm SET SCHEMA theirs")
    lone.standby.wait_for_replay(lone.primary)
    link = await postgres.open_warmup(lone.standby.target(WARMUP))
    with pytest.raises(Refused, match="ALTER EXTENSION pg_prewarm SET SCHEMA headroom"):
        await link.describe()


@pytest.mark.parametrize("is_superuser", [True, False])
async def test_the_owner_of_the_database_counts_as_the_owner_of_public(
    lone: Pair, postgres: Postgres, *, is_superuser: bool
) -> None:
    lone.primary.sql("ALTER SCHEMA public OWNER TO pg_database_owner")
    if not is_superuser:
        lone.primary.sql(f"ALTER DATABASE store OWNER TO {APPLICATION.username}")
    lone.primary.sql("ALTER EXTENSION pg_prewarm SET SCHEMA public")
    lone.standby.wait_for_replay(lone.primary)
    link = await postgres.open_warmup(lone.standby.target(WARMUP))
    if is_superuser:
        assert await link.describe() == ("store-0-a", 2048)
    else:
        with pytest.raises(Refused, match="could replace functions"):
            await link.describe()


async def test_a_changed_function_is_not_the_extensions_own(lone: Pair, postgres: Postgres) -> None:
    lone.primary.sql("ALTER FUNCTION headroom.pg_prewarm(regclass, text, text, bigint, bigint) SECURITY DEFINER")
    lone.standby.wait_for_replay(lone.primary)
    with pytest.raises(Refused):
        await (await postgres.open_warmup(lone.standby.target(WARMUP))).describe()


async def test_the_login_for_caches_is_refused_without_the_right_to_call(lone: Pair, postgres: Postgres) -> None:
    lone.primary.sql(f"REVOKE EXECUTE ON FUNCTION headroom.pg_buffercache_pages() FROM {WARMUP.username}")
    lone.standby.wait_for_replay(lone.primary)
    with pytest.raises(Refused, match="may not call the functions of pg_buffercache: run"):
        await (await postgres.open_warmup(lone.standby.target(WARMUP))).describe()
