"""`python -m e2e.bench.workers`: from rows in a queue to `spec.replicas`, notified and by polling alone.

100 pools read 100 queues of one database. Each queue gets a burst of jobs at a random moment, once with the library's
own notifications and once without them. Nobody works on these: their Deployments' pods have no scheduler, so that only
the operator is measured. Two clocks are read, those of the client in the cluster and of the watch, so the laboratory
runs on one machine. Last comes a pool with real workers, from none to the first job begun.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console

from e2e.bench.pools import ScaleWatch, is_true, pool_of, quantile_of, start_seconds, unscheduled
from e2e.cluster.provider import choose_cluster
from e2e.lab import shop as objects
from e2e.lab.kubectl import Kubectl, Manifest, follow_logs, watch
from e2e.lab.opening import Shop
from e2e.lab.release import Release
from e2e.lab.results import Figure, at_most, percentile, write_results
from e2e.lab.waiting import wait_until

NOTIFIED, POLLED = (0.5, 2.0), (3.0, 6.0)
"""Goals of p50 and p99."""
PROBE_P99, LOOP_LAG_P99, CONNECTIONS, LISTENERS = 1.0, 0.1, 4, 1
SETTINGS = {"max_connections": "400"}
"""Each pool that had a first job keeps its worker for some minutes, with two connections."""
KEEP_SECONDS = 9.0
"""Longer than any burst should wait for its count."""
FIRST = """
SELECT extract(epoch FROM min(e.at)) FROM procrastinate_events e JOIN procrastinate_jobs j ON j.id = e.job_id
WHERE j.queue_name = '{}' AND e.type = 'started' AND e.at > to_timestamp({})
"""
SESSIONS = """
SELECT coalesce(string_agg(concat_ws('/', usename, split_part(application_name, '/', 2), pid), ' ' ORDER BY pid), '')
FROM pg_stat_activity WHERE application_name LIKE 'headroom/%'
"""
LISTENER = "listener"


@dataclass(slots=True)
class Bench:
    """The pools, and what is watched of them."""

    shop: Shop
    release: Release
    console: Console
    scales: ScaleWatch = field(default_factory=ScaleWatch)
    sessions: list[list[str]] = field(default_factory=list)
    """LOGIN/ROLE/PID of each connection, at each look."""

    def set_the_scene(self, queues: Sequence[str]) -> None:
        """Queues, Deployments whose pods are never scheduled, pools, and the first sample of each."""
        self.shop.open(settings=SETTINGS, say=self.console.print)
        self.run_app("schema", "produce.py", "--create-schema-only")
        self.shop.let_queue_be_read()
        self.shop.kubectl.apply(objects.database_guard())
        self.shop.wait_ready("dbg", objects.GUARD)
        if not queues:
            return
        image = self.shop.worker_image
        self.shop.kubectl.apply(*(unscheduled(queue, image) for queue in queues))
        self.shop.kubectl.apply(*(pool_of(queue) for queue in queues))
        wait_until(f"{len(queues)} pools to be Ready", lambda: self._are_ready(queues), timeout=180, every=2)
        self.settle(queues)

    def measure(self, name: str, queues: Sequence[str], *, silent: bool) -> list[float]:
        """Seconds from visible rows to the written count, one for each queue."""
        self.settle(queues)
        self.scales.raised.clear()
        visible: dict[str, float] = {}
        arguments = ("--queues", ",".join(queues), "--keep", str(KEEP_SECONDS), *(("--silent",) if silent else ()))
        self.start_app(name, "bursts.py", *arguments)
        stream = follow_logs(self.shop.kubectl.namespace, f"pod/{name}", lambda line: note(visible, line))
        try:
            self._wait_done(name, timeout=3 * len(queues) + 60)
        finally:
            stream.stop()
        missing = [queue for queue in queues if queue not in self.scales.raised]
        assert not missing, f"{len(missing)} of {len(queues)} pools never grew, {missing[:3]} among them"
        took = [self.scales.raised[queue] - visible[queue] for queue in queues]
        self.console.print(f"{name}: p50 {percentile(took, 0.5):.3f} s, p99 {percentile(took, 0.99):.3f} s")
        return took

    def measure_first_job(self, times: int) -> tuple[list[float], list[float]]:
        """From no worker at all: visible rows to the first job begun, and creation to Ready of the pod that did it."""
        # A pool for each start: one whose queue gets jobs each minute would keep a worker for the next ones.
        queues = [f"commands-{number:03}" for number in range(times)]
        login = {**objects.login(objects.PRIMARY), "CONCURRENCY": "1"}
        for queue in queues:
            command = ("python3", "/app/worker.py", "--queue", queue)
            deployment = objects.app_deployment(queue, self.shop.worker_image, command, login)
            deployment["spec"]["replicas"] = 0
            self.shop.kubectl.apply(deployment, pool_of(queue, maxWorkers=1))
        for queue in queues:
            self.shop.wait_ready("wp", queue)
        begun: list[float] = []
        started: list[float] = []
        for turn, queue in enumerate(queues, 1):
            self._start_once(queue, f"first-{turn}", begun, started)
            self.console.print(f"first job {turn}/{times}: {begun[-1]:.2f} s")
        return begun, started

    def _start_once(self, queue: str, name: str, begun: list[float], started: list[float]) -> None:
        """One start of one pool from none; its worker goes while the others are measured."""
        self.start_app(name, "bursts.py", "--queues", queue, "--jobs", "3", "--keep", "15")
        text = wait_until("the rows", lambda: self.shop.kubectl("logs", name), timeout=30)
        visible = float(json.loads(text)["t"])
        first = wait_until("the first job", lambda: self.shop.sql(FIRST.format(queue, visible)), timeout=60)
        begun.append(float(first) - visible)
        ready = wait_until("its pod to be Ready", lambda: list(filter(is_ready, self._pods(queue))), timeout=30)
        started.extend(map(start_seconds, ready))

    def count_sessions(self) -> None:
        """The operator's own connections to the primary: those of two looks, since a server ends one a moment late."""
        first = self.shop.sql(SESSIONS).split()
        time.sleep(1)
        still = set(self.shop.sql(SESSIONS).split())
        self.sessions.append([session for session in first if session in still])

    def count_most(self) -> int:
        """The most connections at any look that are no listener, without one for each further login."""

        def count(look: Sequence[str]) -> int:
            return len(look) - len({session.split("/")[0] for session in look}) + 1 if look else 0

        looks = [[session for session in look if f"/{LISTENER}/" not in session] for look in self.sessions]
        worst = max(looks, key=count)
        self.console.print(f"connections at the worst look: {', '.join(worst)}")
        return count(worst)

    def count_listeners(self) -> int:
        """The most connections at any look that wait for notifications."""
        looks = [[session for session in look if f"/{LISTENER}/" in session] for look in self.sessions]
        worst = max(looks, key=len)
        self.console.print(f"listeners at the worst look: {', '.join(worst)}")
        return len(worst)

    def settle(self, queues: Sequence[str]) -> None:
        """Wait until no pool wants a worker."""
        wait_until("all pools at 0", lambda: self.scales.all_at(0, queues), timeout=180, every=1)

    def buckets(self, metric: str) -> dict[float, float]:
        """A histogram of the leader, all its series together: count up to each bound."""
        found: dict[float, float] = {}
        for labels, count in self.release.samples(f"{metric}_bucket"):
            bound = float(labels["le"].replace("+Inf", "inf"))
            found[bound] = found.get(bound, 0.0) + count
        return found

    def run_app(self, name: str, *command: str, timeout: float = 90) -> None:
        """Run an app once as a pod, to its end."""
        self.start_app(name, *command)
        self._wait_done(name, timeout=timeout)

    def start_app(self, name: str, script: str, *arguments: str) -> None:
        """Start an app as a pod."""
        command, login = ["python3", f"/app/{script}", *arguments], objects.login(objects.PRIMARY)
        self.shop.kubectl.apply(objects.app_pod(name, self.shop.worker_image, command, login))
        wait_until(f"pod {name} to run", lambda: self._phase(name) in ("Running", "Succeeded"), timeout=60)

    def _wait_done(self, name: str, *, timeout: float) -> None:
        def is_done() -> bool:
            phase = self._phase(name)
            assert phase != "Failed", self.shop.kubectl("logs", name)
            if phase == "Running":
                self.count_sessions()
            return phase == "Succeeded"

        wait_until(f"pod {name} to succeed", is_done, timeout=timeout, every=5)

    def _phase(self, name: str) -> str:
        return str(((self.shop.kubectl.get("pod", name) or {}).get("status") or {}).get("phase"))

    def _pods(self, queue: str) -> list[Manifest]:
        return self.shop.kubectl.list("pods", f"app={queue}")

    def _are_ready(self, queues: Sequence[str]) -> bool:
        ready = sum(is_true(pool, "Ready") for pool in self.shop.kubectl.list("wp"))
        assert ready >= len(queues), f"{ready} of {len(queues)} are"
        return True


def is_ready(pod: Manifest) -> bool:
    """Whether a pod is Ready."""
    return is_true(pod, "Ready")


def note(visible: dict[str, float], line: Manifest) -> None:
    """Keep one line of the bursts' log."""
    visible[str(line["queue"])] = float(line["t"])


def spread(name: str, samples: Sequence[float], goals: tuple[float, float]) -> dict[str, Figure]:
    """p50 and p99 of samples, with their goals."""
    shares = (0.5, 0.99)
    return {
        f"{name}_p{round(100 * share)}": at_most(percentile(samples, share), goal, samples=samples)
        for share, goal in zip(shares, goals, strict=True)
    }


def measure_all(bench: Bench, queues: Sequence[str], first_jobs: int) -> dict[str, Figure]:
    """All figures."""
    metrics = ("headroom_workerpool_due_to_scaled_seconds", "headroom_loop_lag_seconds")
    begun, started = bench.measure_first_job(first_jobs)
    figures = {"rows_to_first_job_p50": Figure(round(statistics.median(begun), 3), samples=begun)}
    if started:
        figures["pod_start_p50"] = Figure(round(statistics.median(started), 3), samples=started)
    if not queues:
        return figures
    before = [bench.buckets(metric) for metric in metrics]
    notified = bench.measure("notified", queues, silent=False)
    polled = bench.measure("polled", queues, silent=True)
    after = [bench.buckets(metric) for metric in metrics]
    due, lag = (quantile_of(*pair, 0.99) for pair in zip(before, after, strict=True))
    return figures | {
        **spread("rows_to_scale_notified", notified, NOTIFIED),
        **spread("rows_to_scale", polled, POLLED),
        "probe_to_scale_p99": at_most(due, PROBE_P99),
        "loop_lag_p99": at_most(lag, LOOP_LAG_P99),
        "connections_per_primary_count": at_most(bench.count_most(), CONNECTIONS, "connections"),
        "listeners_per_database_count": at_most(bench.count_listeners(), LISTENERS, "connections"),
    }


def main() -> int:
    """Run the benchmark and write its results."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.workers", description=__doc__)
    parser.add_argument(
        "--pools", type=int, default=100, help="pools and queues, each measured once (default 100; 0: only first jobs)"
    )
    parser.add_argument("--first-jobs", type=int, default=100, help="starts from no worker at all (default 100)")
    options = parser.parse_args()
    console, cluster = Console(), choose_cluster()
    release = Release(cluster.image("operator"))
    release.install()
    shop = Shop(Kubectl("bench"), cluster.image("postgres17"), cluster.image("worker"))
    bench = Bench(shop, release, console)
    queues = [f"queue-{number:03}" for number in range(options.pools)]
    shop.kubectl.ensure_namespace(objects.RESTRICTED)
    stream = watch(shop.kubectl.namespace, "deployments", bench.scales.take)
    try:
        bench.set_the_scene(queues)
        figures = measure_all(bench, queues, options.first_jobs)
    finally:
        stream.stop()
        shop.close()
        release.uninstall()
    console.print(f"figures: {write_results('bench-workers', figures, pools=options.pools)}")
    for name, figure in figures.items():
        console.print(f"{name:32} {figure.value:8.3f} {figure.unit}  goal {figure.goal}  met {figure.met}")
    return 0 if all(figure.met is not False for figure in figures.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
