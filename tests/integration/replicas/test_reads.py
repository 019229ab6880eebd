"""Reads per second of a real replica, by the probe that asks for everything else too."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import reduce
from itertools import count

import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.policy.replicaset.read_rate import LEAST_RATE, Counter, Piece, measure_reads
from headroom.ports.postgres import ReplicaLink
from tests.contract.postgres.worlds import SwitchFence
from tests.postgres_server import APPLICATION, DATABASE, Server, ServerMaker, local_dialer

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]
CLIENTS = {DATABASE: 3, "postgres": 1}
"""Sessions by database: those of all are counted, and so are their reads."""
READ = "SELECT relname FROM pg_class WHERE oid = 1259"
"""From a table: a session that touches none reports its transactions only once it does."""
PAUSE_SECONDS = 0.005
SECONDS = 10


@contextmanager
def reading(replica: Server) -> Iterator[list[int]]:
    """Clients that read one row after another; yields how often each has."""
    done, is_over = [0] * sum(CLIENTS.values()), threading.Event()

    def read(number: int, database: str) -> None:
        with replica.connect(APPLICATION.username, APPLICATION.password, database=database) as client:
            client.prepare_threshold = None  # else the driver ends its prepared statements after each ROLLBACK
            for made in count(1):
                # One in ten ends as reads of frameworks do that never commit.
                statement = READ if made % 10 else f"BEGIN; {READ}; ROLLBACK"
                client.execute(statement)
                done[number] = made
                if is_over.wait(PAUSE_SECONDS):
                    return

    databases = [name for name, sessions in CLIENTS.items() for _ in range(sessions)]
    threads = [threading.Thread(target=read, args=pair) for pair in enumerate(databases)]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join, 10)
        stack.callback(is_over.set)
        yield done


async def look(link: ReplicaLink) -> dict[str, Counter]:
    probe = await link.probe()
    assert probe.transactions is not None
    return {"store-0-a": Counter(probe.transactions, probe.answered_at)}


async def test_the_rate_of_a_replica_is_that_of_its_clients(servers: ServerMaker) -> None:
    replica = servers.make_replica(servers.make(), settings={"cluster_name": "store-0-a"})
    clock = SystemClock()
    postgres = PsycopgPostgres(SessionNames("lease", "one"), SwitchFence(), clock, dialer=local_dialer())
    link = await postgres.open_replica(replica.target())
    try:
        if servers.installation.major < 15:
            assert (await link.probe()).transactions is None
            return
        before = await look(link)
        await clock.sleep(3)
        counters = await look(link)
        idle = measure_reads(before, counters, 0)
        assert idle is not None
        assert idle.rate < 2, "our own probes are hardly any"
        began, pieces = time.monotonic(), []
        with reading(replica) as done:
            for _ in range(SECONDS):
                await clock.sleep(1)
                before, counters = counters, await look(link)
                pieces.append(measure_reads(before, counters, 0))
        # What the sessions have not reported yet they report as they end.
        await clock.sleep(1)
        before, counters = counters, await look(link)
        seconds = time.monotonic() - began
        known = [piece for piece in (*pieces, measure_reads(before, counters, 0)) if piece is not None]
        measured, actual = reduce(Piece.join, known).rate, sum(done) / seconds
        print(f"{measured:.0f} reads/s measured, {actual:.0f}/s done")
        assert len(known) == SECONDS + 1
        assert actual > LEAST_RATE
        assert measured == pytest.approx(actual, rel=0.1)
        replica.sql("SELECT pg_stat_reset()")
        await clock.sleep(1)
        assert measure_reads(counters, await look(link), 0) is None, "a counter that goes back is no rate"
    finally:
        await link.close()
