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
from e2e.lab.moments import MOMENTS, SET, TEARDOWN, Look, View, find_moment, following_slots
from e2e.lab.opening import Shop
from e2e.lab.processes import kill_pod_processes
from e2e.lab.release import Release
from e2e.lab.waiting import wait_until
from e2e.suite.test_replicas import CHILDREN, apply_set, slots
from e2e.suite.test_snapshots import assert_nothing_left, new_members, wait_whole

LOOK_SECONDS = 0.005
MOMENT_SECONDS = 150.0


def kill_at(view: View, life: Mapping[str, Look], moment: str, leader: str) -> None:
    """End the operator at this moment."""
    end = time.monotonic() + MOMENT_SECONDS
    while not (found := find_moment(view, life, moment)):
        assert time.monotonic() < end, f"this did not come in {MOMENT_SECONDS:.0f} s: {moment}"
        time.sleep(LOOK_SECONDS)
    kill_pod_processes(leader)
    print(f"killed at: {found}; wanted: {moment}")


@dataclass(slots=True)
class Stage:
    """A set that stays from one test to the next, as long as they want snapshots of one kind and none fails."""

    view: View
    release: Release
    consistency: str = ""
    _standing: str = ""

    @property
    def shop(self) -> Shop:
        return self.view.shop

    def stand(self, consistency: str) -> None:
        """One that serves, one standby, and a snapshot, from which all others come."""
        if consistency == self.consistency:
            return
        self.clear()
        apply_set(self.shop, replicas=1, standbys=1, provisioning=lab.taken(consistency=consistency))
        self.shop.wait_counts(serving=1, standbys=1)
        lab.wait_taken(self.shop)
        wait_whole(self.shop, 1, 1)
        lab.patch_set(self.shop, provisioning={"method": "VolumeSnapshot"})
        self.consistency = consistency

    def clear(self) -> None:
        self.shop.kubectl("delete", "dbrs,dbg", "--all", "--wait=true", "--timeout=120s", timeout=130)
        self.consistency = ""

    def live(self, life: str, moment: str, happens: Callable[[Shop], object]) -> None:
        """Something happens, and the operator dies at a moment of what follows."""
        self._standing, self.consistency = self.consistency, ""
        self.release.replace_restarted()
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
        self.consistency = self._standing


@pytest.fixture(scope="module")
def stage(shop: Shop, patrol: Patrol, release: Release) -> Iterator[Stage]:
    with following_slots(shop) as found:
        stage = Stage(View(shop, patrol.kube, found), release)
        yield stage
        stage.clear()


def cases(*lives: tuple[str, str]) -> list[object]:
    """Each moment of these lives, with the kind of snapshots that it is about."""
    return [
        pytest.param(consistency, life, moment, id=f"{life}: {moment}", marks=pytest.mark.proof)
        for consistency, life in lives
        for moment in MOMENTS[life]
    ]


@pytest.mark.parametrize(("consistency", "life", "moment"), cases(("Stopped", "Stopped"), ("Atomic", "Atomic")))
def test_a_snapshot_is_taken_whenever_the_operator_is_killed(
    stage: Stage, consistency: str, life: str, moment: str
) -> None:
    stage.stand(consistency)
    before = lab.names(lab.snapshots(stage.shop))
    stage.live(life, moment, lab.write_wal)
    lab.wait_taken(stage.shop, before=before, timeout=240)
    stage.check_end(1, 1)


@pytest.mark.parametrize(("consistency", "life", "moment"), cases(("Atomic", "clone")))
def test_a_replica_is_restored_whenever_the_operator_is_killed(
    stage: Stage, consistency: str, life: str, moment: str
) -> None:
    stage.stand(consistency)
    [snapshot] = lab.names(lab.snapshots(stage.shop))
    before = set(lab.names(stage.shop.kubectl.list("pods", CHILDREN)))
    stage.live(life, moment, lambda shop: shop.kubectl.scale(f"dbrs/{SET}", 2))
    stage.check_end(2, 1)
    [member] = new_members(stage.shop, before)
    assert (member["method"], member["source"]) == ("VolumeSnapshot", snapshot), member
    stage.shop.kubectl.scale(f"dbrs/{SET}", 1)
    stage.check_end(1, 1)


@pytest.mark.proof
@pytest.mark.parametrize("moment", TEARDOWN)
def test_a_set_with_a_snapshot_goes_whenever_the_operator_is_killed(stage: Stage, moment: str) -> None:
    stage.stand("Atomic")
    stage.live("teardown", moment, lambda shop: shop.kubectl("delete", "dbrs", SET, "--wait=false"))
    stage.shop.kubectl("wait", "--for=delete", f"dbrs/{SET}", "--timeout=120s", timeout=130)
    assert_nothing_left(stage.shop)
