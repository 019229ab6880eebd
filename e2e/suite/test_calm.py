"""A calm operator sends nothing to the API server: pools and sets that are settled are read from the watches alone."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest, condition_of
from e2e.lab.opening import Shop
from e2e.lab.release import Release
from e2e.lab.results import Figure, at_most, write_results
from e2e.lab.waiting import wait_until
from e2e.suite.test_workers import run_app

POOLS, SETS = 20, 3
SECRETS = 3
"""The guard's logins; each is read once a minute, so that a minute holds two reads at most."""
WINDOW_SECONDS = 60.0
SETTLED_SECONDS = 15.0
MINUTES = 5
READS, EXEMPT_KINDS = {"get", "list"}, {"Lease", "PodMetrics", "NodeMetrics"}
SCALE_BY_WATCH = {"Deployment", "StatefulSet"}
IDLE = ["python3", "-c", "import time; time.sleep(86400)"]
Calls = Counter[tuple[str, str]]


def read_calls(release: Release) -> Calls:
    """Calls to the API server that the leader has sent so far, by verb and kind."""
    calls: Calls = Counter()
    for labels, value in release.samples("headroom_kube_calls_total"):
        calls[labels["verb"], labels["kind"]] += int(value)
    return calls


def is_counted(call: tuple[str, str]) -> bool:
    """Whether a calm operator must not send this: all but leases, Secrets, metrics and the scale of foreign kinds."""
    verb, kind = call
    return kind not in {*EXEMPT_KINDS, "Secret"} and not (verb == "get_scale" and kind not in SCALE_BY_WATCH)


def is_read(call: tuple[str, str]) -> bool:
    """Whether it asks for something and changes nothing."""
    return call[0] in READS or call[0] == "get_scale"


def difference(later: Mapping[tuple[str, str], int], earlier: Calls) -> Calls:
    """What came between two readings."""
    return Counter({call: count - earlier[call] for call, count in later.items() if count > earlier[call]})


@pytest.fixture
def settled(clean: Shop) -> Iterator[Shop]:
    """Twenty pools, each with a Deployment and a queue of its own, and three sets; all Ready."""
    run_app(clean, "schema", "produce.py", "--create-schema-only")
    clean.let_queue_be_read()
    clean.sql("DELETE FROM procrastinate_jobs")
    clean.kubectl.apply(objects.database_guard())
    clean.wait_ready("dbg", objects.GUARD)
    names = [f"calm-{number}" for number in range(POOLS)]
    for name in names:
        workers = objects.app_deployment(name, clean.worker_image, IDLE, {})
        queue = {"type": "Postgres", "postgres": {"preset": "procrastinate", "queues": [name]}}
        clean.kubectl.apply(workers, objects.worker_pool(name, queue=queue, maxWorkers=2))
    for number in range(SETS):
        clean.kubectl.apply(build_set(clean, number))
    for name in names:
        clean.wait_ready("wp", name, timeout=240)
    for number in range(SETS):
        clean.wait_counts(serving=1, standbys=0, name=f"calm-{number}", timeout=240)
        clean.wait_ready("dbrs", f"calm-{number}")
    yield clean
    clean.kubectl.delete("deployment", *names)


def build_set(shop: Shop, number: int) -> Manifest:
    name = f"calm-{number}"
    spec = {"replicas": 1, "standbys": 0, "storage": {"size": "1Gi"}, "routing": {"serviceName": f"{name}-read"}}
    return objects.replica_set(shop.postgres_image, name, **spec)


def state_of(shop: Shop) -> str:
    status = (shop.kubectl.get("dbg", objects.GUARD) or {}).get("status") or {}
    return str(status.get("state"))


def wait_settled(release: Release) -> None:
    """Wait until no read that counts was sent for a while: rollouts end, and pods are counted once after that."""
    since, known = time.monotonic(), read_calls(release)

    def look() -> bool:
        nonlocal since, known
        calls = read_calls(release)
        new = {call: count for call, count in difference(calls, known).items() if is_counted(call) and is_read(call)}
        if new:
            since, known = time.monotonic(), calls
        assert time.monotonic() - since >= SETTLED_SECONDS, f"sent lately: {new or 'something'}"
        return True

    wait_until("the operator to be calm", look, timeout=240, every=1.0)


def send_for_a_minute(release: Release) -> Calls:
    """All that the leader sends within a minute."""
    before = read_calls(release)
    time.sleep(WINDOW_SECONDS)
    return difference(read_calls(release), before)


def find_calmest(release: Release) -> Calls:
    """The calmest of a few minutes. A number that moves is written; on a shared machine the database itself jitters."""
    minutes: list[Calls] = []
    for _ in range(MINUTES):
        minutes.append(send_for_a_minute(release))
        if not any(is_counted(call) for call in minutes[-1]):
            break
    return min(minutes, key=lambda sent: sum(count for call, count in sent.items() if is_counted(call)))


@pytest.mark.proof
@pytest.mark.unwatched(why="the clients of the checker would move the numbers that must stay still")
@pytest.mark.timeout(1200)
def test_a_calm_minute_sends_nothing(settled: Shop, release: Release) -> None:
    wait_until("the guard to be Healthy", lambda: state_of(settled) == "Healthy", timeout=300, every=2.0)
    wait_settled(release)
    sent = find_calmest(release)
    counted = {call: count for call, count in sent.items() if is_counted(call)}
    reads = sum(count for call, count in counted.items() if is_read(call))
    writes = sum(counted.values()) - reads
    figures: dict[str, Figure] = {
        "reads_a_minute": at_most(reads, 0, "calls"),
        "writes_a_minute": at_most(writes, 0, "calls"),
    }
    print(write_results("calm", figures, calls={" ".join(call): count for call, count in sorted(sent.items())}))
    assert not counted
    assert sent["get", "Secret"] <= 2 * SECRETS
    for name in (f"calm-{number}" for number in range(POOLS)):
        assert condition_of(settled.kubectl.get("wp", name), "Ready").get("status") == "True"
