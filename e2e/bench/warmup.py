"""What a warm-up costs and brings: reads in the first minute after a standby was needed, with and without it.

Needs PostgreSQL on this machine and no cluster. A primary has two replicas: one serves reads of a hot part of the data,
the other is the standby. Before each round the standby is restarted, and what the kernel has of its files is dropped.
Then its cache is filled, or not, and readers begin at a fixed rate, as after an activation. Nothing else is dropped, so
that other work on the machine keeps its pages.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from e2e.lab.results import Figure, percentile, write_results
from headroom.adapters.clock import SystemClock
from headroom.adapters.postgres import PsycopgPostgres, SessionNames
from headroom.model.warmup import Warmed
from headroom.reconcilers.replicaset.warmer import Place, fill_cache
from tests.postgres_installation import Installation, find_installations
from tests.postgres_server import HBA, WARMUP, Server, ServerMaker, local_dialer

BUFFERS_MIB, DATA_MIB, HOT_MIB = 128, 768, 72
BUFFERS = {"shared_buffers": f"{BUFFERS_MIB}MB", "max_wal_size": "2GB", "wal_keep_size": "2GB", "track_io_timing": "on"}
ROWS_OF_MIB = 1024**2 // 1024
"""One row has about 1 KiB."""
READS_PER_SECOND, ROWS_OF_READ, CLIENTS = 40, 10, 4
FIRST_SECONDS = 60
EARLY_SECONDS = 10
HOT_READS = "SELECT sum(length(f.body)) FROM unnest(%s::int[]) AS g, LATERAL (SELECT body FROM items WHERE id = g) f"


@dataclass(frozen=True)
class DiskInstallation(Installation):
    """Servers whose files are on a disk: with files in memory nothing could be cold."""

    def make_folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="headroom-bench-", dir="/tmp"))
        if os.geteuid() == 0:
            os.chown(folder, *self.ids)
        return folder


class OpenFence:
    """Nothing here needs the lease."""

    def check(self, timeout_seconds: float) -> None:
        """Always leading."""


@dataclass
class Reads:
    """Seconds of each read, and how long after the activation it was due."""

    samples: list[tuple[float, float]] = field(default_factory=list)

    def p95(self, until: float = FIRST_SECONDS) -> float:
        return percentile([seconds for due, seconds in self.samples if due < until], 0.95)


@dataclass(frozen=True)
class Round:
    """One activation; `warmed` is None without a warm-up, CPU seconds are those of the warm-up."""

    reads: Reads
    misses: int
    """Blocks that readers did not find in the standby's cache."""
    missed_seconds: float
    """How long reads waited for these."""
    warmed: Warmed | None = None
    standby_cpu: float = 0.0
    serving_cpu: float = 0.0
    operator_cpu: float = 0.0


@dataclass
class Bench:
    """The servers of the benchmark."""

    primary: Server
    serving: Server
    standby: Server

    def make_data(self) -> None:
        self.primary.run_setup_script(warmup="1")
        self.primary.sql("CREATE TABLE items (id int PRIMARY KEY, body text) WITH (fillfactor = 100)")
        rows = "SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, %s) AS g"
        self.primary.sql(f"INSERT INTO items {rows}", [DATA_MIB * ROWS_OF_MIB])
        self.primary.sql("VACUUM (FREEZE, ANALYZE)")
        self.primary.sql("CHECKPOINT")
        for replica in (self.serving, self.standby):
            replica.wait_for_replay(self.primary)

    def heat(self) -> None:
        """What readers use on the serving replica, often enough to count as hot."""
        ids = list(range(1, HOT_MIB * ROWS_OF_MIB))
        with self.serving.connect() as client:
            for _ in range(3):
                for first in range(0, len(ids), 1000):
                    client.execute(HOT_READS, [ids[first : first + 1000]])

    def run(self, *, is_warmed: bool) -> Round:
        self.standby.stop()
        drop_pages(self.standby.data)
        self.standby.start()
        self.heat()
        if not is_warmed:
            return Round(*self.read_counted())
        before = [cpu_of(self.standby), cpu_of(self.serving), time.process_time()]
        warmed = asyncio.run(self.fill())
        spent = [cpu_of(self.standby), cpu_of(self.serving), time.process_time()]
        standby, serving, operator = (after - earlier for after, earlier in zip(spent, before, strict=True))
        return Round(*self.read_counted(), warmed, standby, serving, operator)

    async def fill(self) -> Warmed:
        clock = SystemClock()
        postgres = PsycopgPostgres(SessionNames("bench", "one"), OpenFence(), clock, dialer=local_dialer())
        places = [Place(name_of(server), server.target(WARMUP)) for server in (self.standby, self.serving)]
        return await fill_cache(postgres, clock, places[0], places[1], 120.0)

    def read_counted(self) -> tuple[Reads, int, float]:
        """The reads, the blocks that they missed, and the seconds that this took them."""
        before = self.count_misses()
        reads = self.read()
        misses, seconds = (after - earlier for after, earlier in zip(self.count_misses(), before, strict=True))
        return reads, int(misses), seconds

    def count_misses(self) -> tuple[int, float]:
        # A backend reports what it has counted when it ends, or a second after its last statement.
        time.sleep(1.5)
        statement = "SELECT blks_read, blk_read_time FROM pg_stat_database WHERE datname = current_database()"
        [row] = self.standby.sql(statement)
        return int(row["blks_read"]), float(row["blk_read_time"]) / 1000

    def read(self) -> Reads:
        """Reads of random hot rows, each due at its time however late the one before was."""
        found, began = Reads(), time.monotonic()

        def client(number: int) -> None:
            chance = random.Random(number)
            with self.standby.connect() as connection:
                for step in range(number, FIRST_SECONDS * READS_PER_SECOND, CLIENTS):
                    due = step / READS_PER_SECOND
                    time.sleep(max(0.0, began + due - time.monotonic()))
                    ids = [chance.randint(1, HOT_MIB * ROWS_OF_MIB - 1) for _ in range(ROWS_OF_READ)]
                    connection.execute(HOT_READS, [ids]).fetchall()
                    found.samples.append((due, time.monotonic() - began - due))

        threads = [threading.Thread(target=client, args=[number]) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found


def name_of(server: Server) -> str:
    return str(server.sql("SELECT current_setting('cluster_name') AS name")[0]["name"])


def drop_pages(folder: Path) -> None:
    """Let the kernel forget what it has of these files; they must be on the disk first."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)


def cpu_of(server: Server) -> float:
    """Seconds of a processor that the server's processes have used, those that have ended included."""
    assert server.process is not None
    root = server.process.pid
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    ticks = _ticks(root, has_ended=True) + sum(_ticks(int(pid), has_ended=False) for pid in children)
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int, *, has_ended: bool) -> int:
    """utime and stime of a process; with `has_ended` also those of its children that are gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except FileNotFoundError:
        return 0
    return sum(map(int, fields[11 : 15 if has_ended else 13]))


@contextmanager
def opened() -> Iterator[Bench]:
    """Servers with the data of the benchmark; gone at the end."""
    newest = find_installations()[0]
    maker = ServerMaker(DiskInstallation(newest.major, newest.bin_folder, newest.root))
    try:
        primary = maker.make(start=True, hba=HBA, **BUFFERS)
        replicas = [
            maker.make_replica(primary, settings={**BUFFERS, "cluster_name": name})
            for name in ("store-0-a", "store-1-a")
        ]
        bench = Bench(primary, *replicas)
        bench.make_data()
        yield bench
    finally:
        maker.close()


def summarise(cold: list[Round], warm: list[Round]) -> dict[str, Figure]:
    """Medians over the rounds."""

    def median(name: str, samples: list[float], unit: str = "s") -> tuple[str, Figure]:
        return name, Figure(round(statistics.median(samples), 4), unit, samples=[round(each, 4) for each in samples])

    done = [(each, each.warmed) for each in warm if each.warmed is not None]
    return dict(
        [
            median("first_minute_p95_cold", [each.reads.p95() for each in cold]),
            median("first_minute_p95_warmed", [each.reads.p95() for each in warm]),
            median("first_10s_p95_cold", [each.reads.p95(EARLY_SECONDS) for each in cold]),
            median("first_10s_p95_warmed", [each.reads.p95(EARLY_SECONDS) for each in warm]),
            median("first_minute_misses_cold", [float(each.misses) for each in cold], "blocks"),
            median("first_minute_misses_warmed", [float(each.misses) for each in warm], "blocks"),
            median("first_minute_missed_cold", [each.missed_seconds for each in cold]),
            median("first_minute_missed_warmed", [each.missed_seconds for each in warm]),
            median("warmup_seconds", [one.seconds for _, one in done]),
            median("warmup_bytes", [one.blocks * 8192.0 for _, one in done], "B"),
            median("standby_cpu", [each.standby_cpu for each, _ in done]),
            median("serving_cpu", [each.serving_cpu for each, _ in done]),
            median("operator_cpu", [each.operator_cpu for each, _ in done]),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    cold, warm = [], []
    with opened() as bench:
        for _ in range(rounds):
            # In turn, so that both meet the same machine.
            cold.append(bench.run(is_warmed=False))
            warm.append(bench.run(is_warmed=True))
            print(f"p95 {cold[-1].reads.p95():.4f} s cold, {warm[-1].reads.p95():.4f} s warmed: {warm[-1].warmed}")
    figures = summarise(cold, warm)
    sizes = {"sharedBuffersMiB": BUFFERS_MIB, "dataMiB": DATA_MIB, "hotMiB": HOT_MIB}
    rate = {"readsPerSecond": READS_PER_SECOND, "rowsOfRead": ROWS_OF_READ}
    path = write_results("warmup", figures, sizes={**sizes, **rate})
    for name, figure in figures.items():
        print(f"{name}: {figure.value} {figure.unit}")
    print(path)


if __name__ == "__main__":
    main()
