"""Knocks on a read Service with fresh connections, and says when each server answers its first read.

One JSON line a server's first answer after it was silent for a second, `{"t", "address"}`, and one a second with
`{"t", "reads", "errors", "too_old", "cut"}`. Fresh connections, since an existing one never moves to a new server.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field

import psycopg

READ = "SELECT host(inet_server_addr()), extract(epoch FROM clock_timestamp() - max(at))::float8 FROM headroom_stamp"
SILENT = 1.0


@dataclass(slots=True)
class Tally:
    """What was seen since the start."""

    reads: int = 0
    errors: int = 0
    too_old: int = 0
    cut: int = 0
    last_answer: dict[str, float] = field(default_factory=dict)

    def answered(self, address: str, age_seconds: float | None, bound: float) -> None:
        """Note a read; say so when its server is new or was silent."""
        now = time.time()
        if now - self.last_answer.get(address, 0.0) > SILENT:
            say(t=now, address=address)
        self.last_answer[address] = now
        self.reads += 1
        self.too_old += age_seconds is not None and age_seconds > bound


def say(**line: object) -> None:
    """Print one JSON line."""
    print(json.dumps(line), flush=True)


async def knock(tally: Tally, pause: float, bound: float, end: float) -> None:
    """Connect, read, leave, over and over."""
    while time.time() < end:
        try:
            async with await psycopg.AsyncConnection.connect(connect_timeout=2, autocommit=True) as connection:
                row = await (await connection.execute(READ)).fetchone()
            if row is not None:
                tally.answered(row[0], row[1], bound)
        except psycopg.Error:
            tally.errors += 1
        await asyncio.sleep(pause)


async def linger(tally: Tally, seconds: float, end: float) -> None:
    """Run one long query after another: a scale-in must not cut any."""
    while time.time() < end:
        try:
            async with await psycopg.AsyncConnection.connect(connect_timeout=2, autocommit=True) as connection:
                await connection.execute("SELECT pg_sleep(%s)", (seconds,))
        except psycopg.Error:
            tally.cut += 1
            await asyncio.sleep(0.2)


async def report(tally: Tally, end: float) -> None:
    """Say the totals each second."""
    while time.time() < end:
        await asyncio.sleep(1)
        say(t=time.time(), reads=tally.reads, errors=tally.errors, too_old=tally.too_old, cut=tally.cut)


async def main() -> None:
    """Run all of it for the time asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=600, help="seconds to run")
    parser.add_argument("--knockers", type=int, default=3, help="loops that connect at the same time")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two connections of a loop")
    parser.add_argument("--lingerers", type=int, default=2, help="loops that run long queries")
    parser.add_argument("--linger-seconds", type=float, default=3, help="length of a long query")
    parser.add_argument("--too-old", type=float, default=12, help="seconds after which a read counts as too old")
    options = parser.parse_args()
    tally, end = Tally(), time.time() + options.duration
    await asyncio.gather(
        report(tally, end),
        *(knock(tally, options.pause, options.too_old, end) for _ in range(options.knockers)),
        *(linger(tally, options.linger_seconds, end) for _ in range(options.lingerers)),
    )


if __name__ == "__main__":
    asyncio.run(main())
