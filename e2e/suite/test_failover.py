"""The primary fails over to a second server under write load, with members before and past the fork."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from e2e.lab import shop as objects
from e2e.lab.kubectl import Kubectl, Manifest
from e2e.lab.manager import FIRST, SECOND, Manager
from e2e.lab.opening import Shop
from e2e.lab.results import RESULTS, Figure, at_most, write_results
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, SET, apply_set, endpoints, names, status

MANAGERS = {"cloudnativepg": False, "patroni": True}
"""Whether the manager drops slots that it does not know after a promotion."""
OUT_SECONDS = 15.0
"""From the move of the name until a diverged member has left the Service: the guard must find the new primary first."""
FOLLOW_SECONDS = 15.0
HOLD_SECONDS = 30


@pytest.fixture(params=MANAGERS)
def manager(clean: Shop, request: pytest.FixtureRequest) -> Iterator[Manager]:
    """A namespace with two servers of its own: the shop's primary is everybody's."""
    name = str(request.param)
    shop = replace(clean, kubectl=Kubectl(f"{clean.kubectl.namespace}-{name}"))
    shop.open(scale=1, size="2Gi")
    manager = Manager(shop, drops_slots=MANAGERS[name])
    try:
        manager.open()
        yield manager
    finally:
        manager.close()
        shop.close()


def slots(shop: Shop) -> set[str]:
    """Slots of ours on the second server."""
    return set(shop.sql("SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'hr_%'", pod=SECOND).split())


def slot_of(pod: Manifest) -> str:
    container = pod["spec"]["containers"][0]
    return str(next(entry["value"] for entry in container["env"] if entry["name"] == "SLOT"))


def test_members_follow_or_are_rebuilt_and_the_old_primary_is_not_believed(
    manager: Manager, request: pytest.FixtureRequest
) -> None:
    shop, sets = manager.shop, manager.shop.kubectl
    apply_set(shop, replicas=2, standbys=1)
    shop.wait_counts(serving=2, standbys=1)
    serving, [standby] = (
        sorted(shop.replicas("serving"), key=lambda pod: str(pod["metadata"]["name"])),
        shop.replicas("standby"),
    )
    ahead, kept = serving[0], [serving[1], standby]
    manager.fail_over(sorted(names(kept)), ahead["metadata"]["name"])

    # The diverged one leaves, whoever can follow does, and the slots are there.
    wait_until(
        "the diverged member to leave the Service",
        lambda: ahead["status"]["podIP"] not in endpoints(shop) or None,
        timeout=120,
        every=0.1,
    )
    manager.mark("diverged member left")
    wanted = {slot_of(pod) for pod in kept}
    wait_until("the slots of those that are kept", lambda: wanted <= slots(shop), timeout=60, every=0.1)
    manager.mark("slots")
    wait_until(
        "those before the fork to follow",
        lambda: all(manager.timeline(name) == 2 for name in names(kept)),
        timeout=90,
        every=0.2,
    )
    manager.mark("followed")
    shop.wait_counts(serving=2, standbys=1, timeout=240)
    shop.wait_ready("dbrs", SET, timeout=120)
    manager.mark("whole")
    # Its pod serves on for the proxies for a few seconds, and may outlast the counts.
    wait_until("the diverged pod to go", lambda: ahead["metadata"]["uid"] not in uids(sets), timeout=60)
    assert {pod["metadata"]["uid"] for pod in kept} <= uids(sets), "one that could follow was rebuilt"
    assert status(shop)["timeline"] == 2
    write_timeline(manager, request.node.callspec.params["manager"])

    hold_against_the_old_primary(manager)


def uids(sets: Kubectl) -> set[str]:
    return {pod["metadata"]["uid"] for pod in sets.list("pods", CHILDREN)}


def hold_against_the_old_primary(manager: Manager) -> None:
    """It comes back, and for a while the name leads to it: nothing is destroyed on its word."""
    shop = manager.shop
    manager.bring_back()
    before = {pod["metadata"]["uid"] for pod in shop.kubectl.list("pods", CHILDREN)}
    manager.point_at(FIRST)
    wait_until(
        "the guard to tell it from the new one",
        lambda: shop.kubectl.condition("dbg", objects.GUARD, "Ready").get("reason") == "PrimaryStale" or None,
        timeout=90,
    )
    end = time.monotonic() + HOLD_SECONDS
    while time.monotonic() < end:
        assert {pod["metadata"]["uid"] for pod in shop.kubectl.list("pods", CHILDREN)} == before
        assert endpoints(shop), "reads go on"
        time.sleep(2)
    assert shop.kubectl.condition("dbrs", SET, "ReadsMayBeStale")["status"] == "True"
    manager.point_at(SECOND)
    shop.wait_ready("dbg", objects.GUARD, timeout=90)
    shop.wait_ready("dbrs", SET, timeout=120)
    assert {pod["metadata"]["uid"] for pod in shop.kubectl.list("pods", CHILDREN)} == before


def write_timeline(manager: Manager, name: str) -> None:
    """The result of both managers in one file: seconds since the crash, and what was promised since the name moved."""
    moments = manager.moments
    moved = moments["name moved"]
    figures = {
        f"{name}: diverged member left the Service": at_most(moments["diverged member left"] - moved, OUT_SECONDS),
        f"{name}: slots on the new primary": Figure(round(moments["slots"] - moved, 2)),
        f"{name}: members before the fork follow": at_most(moments["followed"] - moved, FOLLOW_SECONDS),
        f"{name}: the set is whole": Figure(round(moments["whole"] - moved, 2)),
    }
    timeline = {step: round(at - moments["crash"], 2) for step, at in sorted(moments.items(), key=lambda item: item[1])}
    path = RESULTS / "failover.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    kept = {key: Figure(**figure) for key, figure in before.get("figures", {}).items()}
    write_results("failover", kept | figures, timelines={**before.get("timelines", {}), name: timeline})
