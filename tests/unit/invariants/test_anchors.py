"""The invariant about snapshots and the slots that keep their WAL: what breaks it, and what is only on its way."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from e2e.invariants.facts import SlotFacts
from e2e.invariants.suspicion import ANCHOR_GRACE, MISSING_GRACE, ORPHAN_GRACE, Invariant
from tests.unit.invariants.scene import Scene, anchor, claim, snapshot

FOUND = [Invariant.ANCHORS_ARE_SNAPSHOTS]
Change = Callable[[Scene], None]


@pytest.fixture
def scene() -> Scene:
    """A set with one snapshot."""
    scene = Scene(snapshots=[snapshot("a")])
    scene.slots.append(SlotFacts(anchor("a"), is_active=False))
    return scene.run(40)


def add_slot(scene: Scene) -> None:
    scene.slots.append(SlotFacts(anchor("b"), is_active=False))


def lose_slot(scene: Scene) -> None:
    scene.slots = [one for one in scene.slots if one.name != anchor("a")]


def lose_set(scene: Scene) -> None:
    """All but the snapshot and its slot goes."""
    scene.has_set = False
    scene.drop(0)
    scene.drop(1)


def lose_all_but_the_slot(scene: Scene) -> None:
    lose_set(scene)
    scene.snapshots = []


def recreate_set(scene: Scene) -> None:
    scene.one = replace(scene.one, uid="another")


def test_a_snapshot_with_its_slot_is_well(scene: Scene) -> None:
    assert scene.run(600).found() == []


@pytest.mark.parametrize(
    ("change", "grace"),
    [
        (add_slot, ANCHOR_GRACE),
        (lose_slot, MISSING_GRACE),
        (lose_set, ORPHAN_GRACE),
        (lose_all_but_the_slot, ORPHAN_GRACE),
        (recreate_set, ORPHAN_GRACE),
    ],
)
def test_what_does_not_belong_together_is_found(scene: Scene, change: Change, grace: float) -> None:
    change(scene)
    assert scene.run(grace - 2).found() == []
    assert scene.run(4).found() == FOUND


def choose_source(scene: Scene) -> None:
    add_slot(scene)
    scene.claims[1] = claim(1, anchors=frozenset({anchor("b")}))


def restore_from_one_that_is_gone(scene: Scene) -> None:
    scene.snapshots = []
    scene.claims[1] = claim(1, anchors=frozenset({anchor("a")}))


def restore_from_one_without_slot(scene: Scene) -> None:
    lose_slot(scene)
    scene.claims[1] = claim(1, anchors=frozenset({anchor("a")}))


def delete_both(scene: Scene) -> None:
    """The driver is not done with it."""
    lose_slot(scene)
    scene.snapshots = [snapshot("a", is_deleting=True)]


def delete_set(scene: Scene) -> None:
    lose_slot(scene)
    scene.one = replace(scene.one, is_deleting=True)


def know_no_snapshots(scene: Scene) -> None:
    scene.snapshots = None


def lose_primary(scene: Scene) -> None:
    lose_slot(scene)
    scene.answers = False


@pytest.mark.parametrize(
    "change",
    [
        choose_source,
        restore_from_one_that_is_gone,
        restore_from_one_without_slot,
        delete_both,
        delete_set,
        know_no_snapshots,
        lose_primary,
    ],
)
def test_what_is_on_its_way_or_not_known_accuses_nobody(scene: Scene, change: Change) -> None:
    change(scene)
    assert Invariant.ANCHORS_ARE_SNAPSHOTS not in scene.run(600).found()
