"""Readers that hold connections through the read Service: as many as a profile says, each living for a while.

One JSON line every half second: `{"t", "connections", "reads", "errors", "p50_ms", "p99_ms", "first"}`. Connections
are those that are open, the latencies are null if no read was answered, and `first` names each server's first answer
ever as {address: epoch seconds}. A connection never moves to another server, so
readers reconnect after some seconds, as pools with a maximum lifetime do.
"""

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
from profile_line import Points, parse_profile, value_at

READ = "SELECT abalance FROM pgbench_accounts WHERE aid = %s"
EVERY = 0.5


@dataclass(slots=True)
class Tally:
    """What the readers saw; latencies in milliseconds since the last line."""

    connections: int = 0
    reads: int = 0
    errors: int = 0
    latencies: list[float] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)

    def read(self, address: str, milliseconds: float) -> None:
        """Note an answer."""
        self.reads += 1
        self.latencies.append(milliseconds)
        self.first.setdefault(address, time.time())

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """A connection that is open; one that is being made, or waits to be made again, is none."""
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1

    def line(self) -> dict[str, object]:
        """Everything since the last line, and begin anew."""
        ranked = sorted(self.latencies)
        found: dict[str, object] = {
            "t": time.time(),
            "connections": self.connections,
            "reads": self.reads,
            "errors": self.errors,
            "p50_ms": at_share(ranked, 0.5),
            "p99_ms": at_share(ranked, 0.99),
            "first": self.first,
        }
        self.reads = self.errors = 0
        self.latencies = []
        return found


def at_share(ranked: list[float], share: float) -> float | None:
    """The value that so many of the ranked ones are below; None if there are none."""
    return round(ranked[min(len(ranked) - 1, int(len(ranked) * share))], 2) if ranked else None


async def live(tally: Tally, rows: int, think: float, lifetime: float) -> None:
    """One connection's life: connect, read now and then, leave after its lifetime; a failure counts as one."""
    try:
        async with await psycopg.AsyncConnection.connect(connect_timeout=5, autocommit=True) as connection:
            with tally.counted():
                address = await find_address(connection)
                end = time.time() + lifetime * random.uniform(0.5, 1.5)
                while time.time() < end:
                    await read(connection, tally, address, rows)
                    await asyncio.sleep(think * random.uniform(0.5, 1.5))
    except psycopg.Error as error:
        tally.errors += 1
        print(json.dumps({"problem": str(error)[:200]}), flush=True)
        await asyncio.sleep(0.5)


async def find_address(connection: psycopg.AsyncConnection) -> str:
    """The server's own address, which tells which replica answers."""
    row = await (await connection.execute("SELECT host(inet_server_addr())")).fetchone()
    return str(row[0]) if row else ""


async def read(connection: psycopg.AsyncConnection, tally: Tally, address: str, rows: int) -> None:
    """One read by key, timed."""
    began = time.perf_counter()
    await connection.execute(READ, (random.randint(1, rows),))
    tally.read(address, (time.perf_counter() - began) * 1000)


async def keep(tally: Tally, points: Points, duration: float, options: argparse.Namespace) -> None:
    """Keep as many connections alive as the profile asks for."""
    started = time.time()
    lives: set[asyncio.Task[None]] = set()
    while (elapsed := time.time() - started) < duration:
        lives = {task for task in lives if not task.done()}
        wanted = round(value_at(points, elapsed))
        while len(lives) < wanted:
            lives.add(asyncio.create_task(live(tally, options.rows, options.think, options.lifetime)))
        for task in list(lives)[: max(0, len(lives) - wanted)]:
            task.cancel()
        await asyncio.sleep(0.1)
    for task in lives:
        task.cancel()
    await asyncio.gather(*lives, return_exceptions=True)


async def report(tally: Tally) -> None:
    """Print a line again and again."""
    while True:
        await asyncio.sleep(EVERY)
        print(json.dumps(tally.line()), flush=True)


async def main() -> None:
    """Read for the time asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="[[0, 10]]", help="connections, as [[seconds, count], ...]")
    parser.add_argument("--duration", type=float, default=60, help="seconds to run")
    parser.add_argument("--rows", type=int, default=100_000, help="accounts to choose from")
    parser.add_argument("--think", type=float, default=0.8, help="seconds between two reads of a connection")
    parser.add_argument("--lifetime", type=float, default=12, help="seconds a connection lives, half to one and a half")
    options = parser.parse_args()
    tally = Tally()
    reporter = asyncio.create_task(report(tally))
    await keep(tally, parse_profile(options.profile), options.duration, options)
    reporter.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reporter


if __name__ == "__main__":
    asyncio.run(main())
