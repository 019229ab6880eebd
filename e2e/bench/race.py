"""`python -m e2e.bench.race`: workers that race for one row, named, stopped, and released once the lock is removed.

Real procrastinate workers on the laboratory's primary. Each job locks the same row while it works, so that at most 16
end per second, however many workers there are; 20 arrive. More workers gain nothing, and a formula on the lag would ask
for all thirty. Once growth has been stopped for a minute, a new pod template takes the lock away: the pool must grow
and drain the queue. Clocks of the cluster, the database and this process are compared, so all run on one machine.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console

from e2e.bench.race_picture import draw
from e2e.bench.race_record import ARRIVALS, DRAINED_BACKLOG, HELD_SECONDS, MOST_WORKERS, Record, measure
from e2e.cluster.provider import choose_cluster
from e2e.lab import shop as objects
from e2e.lab.kubectl import Kubectl, Manifest, Stream, follow_logs, watch
from e2e.lab.opening import Shop
from e2e.lab.release import Release
from e2e.lab.results import RESULTS, Figure, add_to_results, write_results
from e2e.lab.waiting import wait_until

NAME, PRODUCER, ROLE = "commands", "producer", "shop_worker"
CONNECTIONS_EACH = 3
"""Two of procrastinate's connector, and one of the jobs."""
SETTINGS = {"max_connections": "300"}
"""Enough for all thirty workers: it is not the connection budget that stops them."""
GIVE_UP_SECONDS, HOLD_SECONDS, DRAIN_SECONDS, LONGEST = 420.0, 60.0, 420.0, 1200.0
PREPARE = f"""
CREATE TABLE race (id int PRIMARY KEY, taken bigint NOT NULL);
INSERT INTO race VALUES (1, 0);
CREATE ROLE {ROLE} LOGIN PASSWORD '{objects.PASSWORD}';
GRANT pg_read_all_data, pg_write_all_data TO {ROLE}
"""
ENDED = """
SELECT extract(epoch FROM date_trunc('second', at)), count(*)
FROM procrastinate_events WHERE type IN ('succeeded', 'failed') GROUP BY 1 ORDER BY 1
"""
FIGURES = (
    "useful_count",
    "highest_count",
    "excess_to_named",
    "verdicts_until_named_count",
    "lock_named",
    "statement_named",
    "fix_to_lifted",
    "fix_to_drained",
    "highest_count_after_fix",
)
"""What the race must show; one that is absent was not reached."""


@dataclass(slots=True)
class Race:
    """The shop, what is watched of it, and what was seen."""

    shop: Shop
    console: Console
    record: Record = field(default_factory=Record)
    streams: list[Stream] = field(default_factory=list)

    def set_the_scene(self) -> None:
        """A primary with the queue and the row, a guard, one worker and the pool; no jobs yet."""
        kubectl = self.shop.kubectl
        self.shop.open(settings=SETTINGS, say=self.console.print)
        self._start_app("schema", "produce.py", "--create-schema-only")
        wait_until("the schema", lambda: self._phase("schema") == "Succeeded", timeout=90)
        self.shop.let_queue_be_read()
        self.shop.sql(PREPARE)
        kubectl.apply(objects.database_guard())
        self.shop.wait_ready("dbg", objects.GUARD)
        kubectl.apply(workers_of(self.shop.worker_image, has_lock=True), pool())
        self.shop.wait_ready("wp", NAME)
        wait_until("one worker", lambda: self._ready() == 1, timeout=90)

    def run(self) -> None:
        """The whole race; what does not come is missing in the record."""
        space = self.shop.kubectl.namespace
        profile = f"[[0, {ARRIVALS}]]"
        arguments = ("--profile", profile, "--duration", str(LONGEST), "--service-seconds", str(HELD_SECONDS))
        self.record.started = time.time()
        self.streams += [
            watch(space, "deployments", self.record.on_deployment),
            watch(space, "wp", self.record.on_pool),
            watch(space, "events", self.record.on_event),
        ]
        self._start_app(PRODUCER, "produce.py", *arguments)
        self.streams.append(follow_logs(space, f"pod/{PRODUCER}", self.record.on_queue))
        if self._wait(GIVE_UP_SECONDS, "Effective=False", self._is_named):
            self._wait(HOLD_SECONDS, "the end of a minute", lambda: False)
        self.console.print("the lock is removed: a new pod template without it")
        self.record.fixed_at = self.record.now()
        self.shop.kubectl.apply(workers_of(self.shop.worker_image, has_lock=False))
        self._wait(DRAIN_SECONDS, "a drained queue", self._is_drained)

    def end(self) -> None:
        """Stop watching, and read when jobs ended."""
        for stream in self.streams:
            stream.stop()
        self.record.take_ended(self.shop.sql(ENDED))

    def _wait(self, seconds: float, what: str, is_there: Callable[[], bool]) -> bool:
        """Wait at most so long, with a line every ten seconds; whether it came."""
        self.console.print(f"waiting for {what}")
        end, told = time.monotonic() + seconds, 0.0
        while time.monotonic() < end:
            if is_there():
                return True
            if time.monotonic() >= told:
                told = time.monotonic() + 10
                self.console.print(self._describe(), soft_wrap=True)
            time.sleep(0.5)
        return False

    def _describe(self) -> str:
        record = self.record
        asked = record.asked[-1][1] if record.asked else 0
        ready = record.ready[-1][1] if record.ready else 0
        backlog = record.backlog[-1][1] if record.backlog else 0
        said = f"{record.states[-1].reason}: {record.states[-1].message}" if record.states else "-"
        return f"{record.now():4.0f} s  asked {asked}  ready {ready}  backlog {backlog:.0f}  {said}"

    def _is_named(self) -> bool:
        return bool(self.record.states) and self.record.states[-1].is_named

    def _is_drained(self) -> bool:
        at, backlog = self.record.backlog[-1] if self.record.backlog else (0.0, DRAINED_BACKLOG + 1)
        assert self.record.fixed_at is not None
        return at > self.record.fixed_at and backlog <= DRAINED_BACKLOG

    def _start_app(self, name: str, script: str, *arguments: str) -> None:
        command = ["python3", f"/app/{script}", *arguments]
        login = objects.login(objects.PRIMARY)
        self.shop.kubectl.apply(objects.app_pod(name, self.shop.worker_image, command, login))
        wait_until(f"pod {name} to run", lambda: self._phase(name) in ("Running", "Succeeded"), timeout=60)

    def _phase(self, name: str) -> str:
        pod = self.shop.kubectl.get("pod", name) or {}
        phase = str((pod.get("status") or {}).get("phase"))
        assert phase != "Failed", self.shop.kubectl("logs", name)
        return phase

    def _ready(self) -> int:
        body = self.shop.kubectl.get("deployment", NAME) or {}
        return int((body.get("status") or {}).get("readyReplicas") or 0)


def workers_of(image: str, *, has_lock: bool) -> Manifest:
    """The workers' Deployment, with the lock or without it; each has one job at a time."""
    lock = {"LOCK_ROW": "1"} if has_lock else {}
    variables = {**objects.login(objects.PRIMARY, ROLE), "CONCURRENCY": "1", **lock}
    command = ("python3", "/app/worker.py", "--queue", NAME)
    return objects.app_deployment(NAME, image, command, variables)


def pool() -> Manifest:
    """The pool of the race, from one worker up to thirty."""
    return objects.worker_pool(NAME, maxWorkers=MOST_WORKERS, connectionsPerWorker=CONNECTIONS_EACH, databaseRole=ROLE)


def report(console: Console, figures: dict[str, Figure]) -> bool:
    """Print the figures; True if all are there and no goal was missed."""
    for name, figure in figures.items():
        console.print(f"{name:28} {figure.value:8.3f} {figure.unit}  goal {figure.goal}  met {figure.met}")
    missing = [name for name in FIGURES if name not in figures]
    if missing:
        console.print(f"not reached: {', '.join(missing)}")
    return not missing and all(figure.met is not False for figure in figures.values())


def main() -> int:
    """Run the race; write its results and its picture."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.race", description=__doc__)
    parser.add_argument("--add-to", metavar="NAME", help="add the figures to these results too, such as bench-workers")
    options = parser.parse_args()
    console, cluster = Console(), choose_cluster()
    release = Release(cluster.image("operator"))
    release.install()
    race = Race(Shop(Kubectl("race"), cluster.image("postgres17"), cluster.image("worker")), console)
    try:
        race.set_the_scene()
        try:
            race.run()
        finally:
            race.end()
    finally:
        race.shop.close()
        release.uninstall()
    figures = measure(race.record)
    console.print(f"figures: {write_results('bench-race', figures, **race.record.as_json())}")
    if options.add_to:
        add_to_results(options.add_to, "race", figures)
    console.print(f"picture: {draw(race.record, RESULTS / 'bench-race.png')}")
    return 0 if report(console, figures) else 1


if __name__ == "__main__":
    sys.exit(main())
