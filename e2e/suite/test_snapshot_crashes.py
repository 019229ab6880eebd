"""The operator is killed at each step of the life of a snapshot, and of a replica that is restored from one.

The end is that of an undisturbed set: one snapshot, newer than the one before, the members that were asked for, and a
slot for each of them.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from e2e.invariants.patrol import Patrol
from e2e.lab import snapshots as lab
from e2e.lab.moments import MOMENTS, SET, TEARDOWN, Look, View, find_moment
from e2e.lab.opening import Shop
from e2e.lab.processes import kill_pod_processes
from e2e.lab.release import Release
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, apply_set, slots
from e2e.suite.test_snapshots import assert_nothing_left, new_members, wait_whole

LOOK_SECONDS = 0.005
MOMENT_SECONDS = 150.0
LATE_SECONDS = 1.0
"""How often it is looked whether the moment was missed, which asks the primary."""


def kill_at(view: View, life: Mapping[str, Look], moment: str, leader: str) -> None:
    """End the operator at this moment."""
    end, late_at, found = time.monotonic() + MOMENT_SECONDS, time.monotonic() + LATE_SECONDS, ""
    while not found:
        assert time.monotonic() < end, f"this did not come in {MOMENT_SECONDS:.0f} s: {moment}"
        time.sleep(LOOK_SECONDS)
        if life[moment](view):
            found = moment
        elif time.monotonic() >= late_at:
            late_at, found = time.monotonic() + LATE_SECONDS, find_moment(view, life, moment)
    kill_pod_processes(leader)
    print(f"killed at: {found}; wanted: {moment}")


@dataclass(frozen=True, slots=True)
class Standing:
    """A set that stays from one test to the next."""

    view: View
    release: Release

    @property
    def shop(self) -> Shop:
        return self.view.shop

    def live(self, life: str, moment: str, happens: Callable[[Shop], object]) -> None:
        """Something happens, and the operator dies at a moment of what follows."""
        leader = str(self.release.wait_leader()["metadata"]["name"])
        view = self.view.begin()
        happens(self.shop)
        kill_at(view, MOMENTS[life], moment, leader)

    def check_end(self, serving: int, standbys: int) -> None:
        """As if nobody had died."""
        wait_whole(self.shop, serving, standbys)
        count = serving + standbys
        assert len(self.shop.kubectl.list("pods", CHILDREN)) == count
        wait_until("a slot for each, and for the snapshot", lambda: len(slots(self.shop)) == count + 1, timeout=60)
        assert len(lab.snapshots(self.shop)) == 1


def stand(shop: Shop, patrol: Patrol, release: Release, consistency: str) -> Standing:
    """One that serves, one standby, and a snapshot, from which all others come."""
    apply_set(shop, replicas=1, standbys=1, provisioning=lab.taken(consistency=consistency))
    shop.wait_counts(serving=1, standbys=1)
    lab.wait_taken(shop)
    wait_whole(shop, 1, 1)
    lab.patch_set(shop, provisioning={"method": "VolumeSnapshot"})
    return Standing(View(shop, patrol.kube), release)


def clear(shop: Shop) -> None:
    shop.kubectl("delete", "dbrs,dbg", "--all", "--wait=true", "--timeout=120s", timeout=130)


@pytest.fixture(scope="module")
def standing(shop: Shop, patrol: Patrol, release: Release, request: pytest.FixtureRequest) -> Iterator[Standing]:
    clear(shop)
    yield stand(shop, patrol, release, request.param)
    clear(shop)


def cases(*lives: tuple[str, str]) -> list[object]:
    """Each moment of these lives, with the kind of set that it is about."""
    return [
        pytest.param(consistency, life, moment, id=f"{life}: {moment}", marks=pytest.mark.proof)
        for consistency, life in lives
        for moment in MOMENTS[life]
    ]


@pytest.mark.parametrize(
    ("standing", "life", "moment"), cases(("Stopped", "Stopped"), ("Atomic", "Atomic")), indirect=["standing"]
)
def test_a_snapshot_is_taken_whenever_the_operator_is_killed(standing: Standing, life: str, moment: str) -> None:
    before = lab.names(lab.snapshots(standing.shop))
    standing.live(life, moment, lab.write_wal)
    lab.wait_taken(standing.shop, before=before, timeout=240)
    standing.check_end(1, 1)


@pytest.mark.parametrize(("standing", "life", "moment"), cases(("Atomic", "clone")), indirect=["standing"])
def test_a_replica_is_restored_whenever_the_operator_is_killed(standing: Standing, life: str, moment: str) -> None:
    shop = standing.shop
    [snapshot] = lab.names(lab.snapshots(shop))
    before = set(lab.names(shop.kubectl.list("pods", CHILDREN)))
    standing.live(life, moment, lambda shop: shop.kubectl.scale(f"dbrs/{SET}", 2))
    standing.check_end(2, 1)
    [member] = new_members(shop, before)
    assert (member["method"], member["source"]) == ("VolumeSnapshot", snapshot), member
    shop.kubectl.scale(f"dbrs/{SET}", 1)
    standing.check_end(1, 1)


@pytest.mark.proof
@pytest.mark.parametrize("moment", TEARDOWN)
def test_a_set_with_a_snapshot_goes_whenever_the_operator_is_killed(
    clean: Shop, patrol: Patrol, release: Release, moment: str
) -> None:
    standing = stand(clean, patrol, release, "Atomic")
    standing.live("teardown", moment, lambda shop: shop.kubectl("delete", "dbrs", SET, "--wait=false"))
    clean.kubectl("wait", "--for=delete", f"dbrs/{SET}", "--timeout=120s", timeout=130)
    assert_nothing_left(clean)
