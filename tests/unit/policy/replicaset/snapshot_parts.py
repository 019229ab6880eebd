"""A snapshot with its stamps and its anchor, and the facts of a set that has it, for the tests of restores."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.database import Lsn, SlotFacts
from headroom.model.moments import Moment
from headroom.model.snapshot import SnapshotFacts, Stamps
from headroom.model.timelines import TimelineHistory
from headroom.policy.replicaset.facts import PrimaryFacts, SetFacts
from tests.unit.policy.replicaset.make import (
    NOW,
    SERVER,
    SYSTEM,
    make_facts,
    make_mark,
    make_primary,
    make_slot,
)
from tests.unit.policy.replicaset.test_decide import make_spec

MOMENT = Moment(0.0, NOW)
GI, MI = 1024**3, 1024**2
FROM, TO, HERE = Lsn(100 * MI), Lsn(101 * MI), 112 * MI
ANCHOR, FRESH = "hr_a_b_s_1", make_slot(name="hr_a_b_2_z", restart_lsn=Lsn(HERE))
COPIED = make_slot(name="hr_a_b_2_z", restart_lsn=FROM)
STAMPS = Stamps(SYSTEM, 1, 17, "Stopped", "hr_a_b_0_a", ANCHOR, FROM, TO)
SNAPSHOT = SnapshotFacts("store-s-1", "u", "1", NOW, is_ready=True, size=GI, stamps=STAMPS)
NEWER = replace(SNAPSHOT, name="store-s-2", created_at=NOW + timedelta(hours=1))
ANCHORED = SlotFacts(ANCHOR, False, Lsn(99 * MI), "reserved", False)
LOST = SlotFacts(ANCHOR, False, None, "lost", False, invalidation="wal_removed")
GIVEN_UP = SlotFacts(ANCHOR, False, None, "lost", False, invalidation="idle_timeout")


def spec_of(
    method: str = "Auto", *, storage: str = "1Gi", has_snapshots: bool = True, **provisioning: Any
) -> ReplicaSetSpec:
    snapshots = {"snapshots": {"className": "csi"}} if has_snapshots else {}
    return make_spec(storage={"size": storage}, provisioning={"method": method, **snapshots, **provisioning})


def primary(timeline: int = 1, history: TimelineHistory | None = None, **server: Any) -> PrimaryFacts:
    facts = make_primary(server=replace(SERVER, **server))
    return replace(facts, marks=(make_mark(0.0, HERE, timeline),), history=history)


def facts_of(*snapshots: SnapshotFacts, anchors: tuple[SlotFacts, ...] = (ANCHORED,), **changes: Any) -> SetFacts:
    return make_facts(**{"primary": primary(), "snapshots": snapshots or (SNAPSHOT,), "anchors": anchors, **changes})


def stamped(**changes: Any) -> SnapshotFacts:
    return replace(SNAPSHOT, stamps=replace(STAMPS, **changes))


def with_fork(timeline: int, end: int) -> PrimaryFacts:
    return primary(2, TimelineHistory(2, ((timeline, Lsn(end)),)))
