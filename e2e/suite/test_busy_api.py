"""An API server that refuses for a while, and another writer on the same objects: later, but as if undisturbed."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from e2e.lab.kubectl import CommandFailed, Kubectl, Manifest
from e2e.lab.opening import Shop
from e2e.lab.release import Release
from e2e.lab.results import Figure, at_least, at_most, write_results
from e2e.lab.slow_api import slow_api
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, SET, apply_set, slots, status

EVERYWHERE = Kubectl("default")
NAME = "headroom-squeezed"
REFUSALS = 10
"""So many requests of the operator are to be refused before a test believes that it was squeezed."""
TWINS = 3
LATE_SECONDS, IDLE_SECONDS = 1.5, 600.0
MAX_LAG_SECONDS = 1.0
"""The bound to enter the Service: an idle replica is far below it, and one late answer would be far above."""


def refusal(release: Release) -> list[Manifest]:
    """API Priority and Fairness with one seat for the operator: what it asks beside one other request gets a 429."""
    api = "flowcontrol.apiserver.k8s.io/v1"
    subject = {
        "kind": "ServiceAccount",
        "serviceAccount": {"name": "headroom", "namespace": release.namespace},
    }
    rule = {
        "verbs": ["*"],
        "apiGroups": ["*"],
        "resources": ["*"],
        "namespaces": ["*"],
        "clusterScope": True,
    }
    limited = {
        "nominalConcurrencyShares": 0,
        "lendablePercent": 0,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }
    level = {"type": "Limited", "limited": limited}
    schema = {
        "matchingPrecedence": 2,
        "priorityLevelConfiguration": {"name": NAME},
        "rules": [{"subjects": [subject], "resourceRules": [rule]}],
    }
    return [
        {"apiVersion": api, "kind": "PriorityLevelConfiguration", "metadata": {"name": NAME}, "spec": level},
        {"apiVersion": api, "kind": "FlowSchema", "metadata": {"name": NAME}, "spec": schema},
    ]


@contextmanager
def squeezed(release: Release) -> Iterator[None]:
    """One seat, and others under the operator's name that take it: alone it sends too little to be refused."""
    done = threading.Event()
    twins = [threading.Thread(target=take_seat, args=(release, done), daemon=True) for _ in range(TWINS)]
    EVERYWHERE.apply(*refusal(release))
    try:
        for twin in twins:
            twin.start()
        yield
    finally:
        done.set()
        for twin in twins:
            twin.join(timeout=30)
        EVERYWHERE("delete", f"flowschema/{NAME}", f"prioritylevelconfiguration/{NAME}")


def take_seat(release: Release, done: threading.Event) -> None:
    user = f"system:serviceaccount:{release.namespace}:headroom"
    while not done.is_set():
        try:
            EVERYWHERE("get", "pods", "-A", f"--as={user}", "-o", "name")
        except CommandFailed:
            continue


def rejected() -> float:
    """Requests that the API server has answered with 429 under our level so far."""
    lines = EVERYWHERE("get", "--raw", "/metrics").splitlines()
    mark = f'priority_level="{NAME}"'
    name = "apiserver_flowcontrol_rejected_requests_total"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and mark in line)


def refused_to_operator(release: Release) -> float:
    """429s that the operator itself has met so far."""
    series = release.samples("headroom_kube_calls_total")
    return sum(value for labels, value in series if labels["code"] == "429")


@pytest.mark.alone
def test_429_for_a_while_only_delays(clean: Shop, release: Release) -> None:
    """Every kind of request is squeezed, the lease's among them."""
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    before, refused = rejected(), refused_to_operator(release)
    with squeezed(release):
        wait_until("the API server to refuse", lambda: rejected() > before + REFUSALS, timeout=60)
        clean.kubectl.scale(f"dbrs/{SET}", 2)
        wait_until("it to refuse the operator", lambda: refused_to_operator(release) > refused, timeout=60)
    clean.wait_counts(serving=2, standbys=1, timeout=120)
    assert len(clean.kubectl.list("pods", CHILDREN)) == len(slots(clean)) == 3


def has_serving(shop: Shop, count: int) -> bool:
    return len(shop.replicas("serving")) == count


def test_another_writer_on_the_same_objects_only_delays(clean: Shop) -> None:
    apply_set(clean, replicas=1, standbys=1)
    clean.wait_counts(serving=1, standbys=1)
    done, writes = threading.Event(), [0]

    def scribble() -> None:
        while not done.is_set():
            writes[0] += 1
            note = json.dumps({"metadata": {"annotations": {"example.com/scribble": str(writes[0])}}})
            for pod in clean.kubectl.list("pods", CHILDREN):
                try:
                    clean.kubectl("patch", "pod", pod["metadata"]["name"], "--type=merge", "-p", note)
                except CommandFailed:
                    continue

    thread = threading.Thread(target=scribble, daemon=True)
    thread.start()
    try:
        for wanted in (2, 1, 2):
            clean.kubectl.scale(f"dbrs/{SET}", wanted)
            wait_until(f"{wanted} to serve", partial(has_serving, clean, wanted), timeout=120)
    finally:
        done.set()
        thread.join(timeout=60)
    assert writes[0] > 0
    clean.wait_counts(serving=2, standbys=1, timeout=120)
    wait_until("as many slots as members", lambda: len(slots(clean)) == 3, timeout=60)
    assert status(clean)["replicas"] == 2


def read_lags(release: Release) -> list[float]:
    """What the leader measured last of each member."""
    return [value for _, value in release.samples("headroom_replicaset_replay_lag_seconds")]


def serving_of(shop: Shop) -> set[str]:
    return {pod["metadata"]["uid"] for pod in shop.replicas("serving")}


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_an_api_server_that_answers_late_makes_no_lag(clean: Shop, release: Release) -> None:
    apply_set(clean, replicas=2, standbys=1)
    clean.wait_counts(serving=2, standbys=1)
    lags: list[float] = []
    with slow_api(release, LATE_SECONDS):
        clean.wait_ready("dbrs", SET, timeout=120)
        serving, end = serving_of(clean), time.monotonic() + IDLE_SECONDS
        while time.monotonic() < end:
            lags += read_lags(release)
            assert clean.kubectl.condition("dbrs", SET, "ReadsMayBeStale")["status"] == "False"
            time.sleep(1)
        assert serving_of(clean) == serving, "a member was exchanged"
        # A standby is still put into the Service, however late the answers are.
        apply_set(clean, replicas=3, standbys=0)
        clean.wait_counts(serving=3, standbys=0, timeout=60)
    late = [lag for lag in lags if lag > MAX_LAG_SECONDS]
    figures = {
        "lag_readings_count": at_least(len(lags), 3 * IDLE_SECONDS / 4, "readings"),
        "lag_readings_above_bound_count": at_most(len(late), 0, "readings"),
        "lag_highest": Figure(max(lags)),
    }
    write_results("slow-api", figures)
    assert not late, f"{len(late)} of {len(lags)} readings were above {MAX_LAG_SECONDS} s: {sorted(late)[-5:]}"
    assert figures["lag_readings_count"].met, f"only {len(lags)} readings"
