"""One pass over the members, the snapshots and the anchors of a set, for the tests of snapshots."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Truth
from headroom.model.database import Lsn, SlotFacts
from headroom.model.frozen import FrozenMap
from headroom.model.moments import Moment
from headroom.model.replica import Role, format_incarnation
from headroom.model.snapshot import SnapshotFacts, Stamps
from headroom.policy.replicaset.facts import SetFacts
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.snapshot_need import Scene, SnapshotNeed, build_scene, decide_need
from headroom.policy.replicaset.snapshot_report import describe_freshness
from headroom.policy.replicaset.snapshots import SnapshotPlan, decide_snapshots
from headroom.reasons import Reason
from tests.manifests import make_set
from tests.unit.policy.replicaset.make import (
    NOW,
    SERVER,
    SYSTEM,
    judge,
    make_claim,
    make_facts,
    make_mark,
    make_member,
    make_primary,
    make_probe,
    make_slot,
    make_targets,
)

MIB = 1024**2
FLUSH = Lsn(1024 * MIB)
INCARNATION = format_incarnation(NOW)
OLD_SYSTEM, ANOTHER = "2", "another server"
AT = Moment(1000.0, NOW)


def anchor(incarnation: str = "a", lsn: int = FLUSH - MIB, **changes: Any) -> SlotFacts:
    slot = make_slot(name=f"hr_0123abcd_4567cdef_s_{incarnation}", restart_lsn=Lsn(lsn), is_active=False)
    return replace(slot, **changes)


def stamps(incarnation: str = "a", **changes: Any) -> Stamps:
    known = Stamps(SYSTEM, 1, 17, "Stopped", "hr_a_b_2_a", anchor(incarnation).name, FLUSH, FLUSH)
    return replace(known, **changes)


def snapshot(incarnation: str = "a", *, age: timedelta = timedelta(minutes=1), **changes: Any) -> SnapshotFacts:
    facts = SnapshotFacts(
        f"store-s-{incarnation}", "u", "1", NOW - age, "store-2-a", is_ready=True, stamps=stamps(incarnation)
    )
    return replace(facts, **changes)


def begun(incarnation: str = "a", **changes: Any) -> SnapshotFacts:
    return snapshot(incarnation, **{"is_ready": False, **changes})


def standby(ordinal: int, **changes: Any) -> Member:
    member = make_member(Role.STANDBY, ordinal, probe=make_probe(receive_lsn=FLUSH, timeline=1), slot=make_slot())
    return replace(member, **changes)


def source(incarnation: str = INCARNATION, *, is_running: bool = False, **changes: Any) -> Member:
    """Member 2, stopped for a snapshot of this incarnation."""
    first = {**stamps(incarnation, to_lsn=None).format()}
    claim = make_claim(name="store-2-a", snapshot=f"store-s-{incarnation}", stamps=FrozenMap(first))
    member = standby(2, claim=claim, slot=make_slot(is_active=False))
    return replace(member if is_running else replace(member, pod=None, probe=None, lag=None), **changes)


WHOLE = (make_member(Role.SERVING, 0), standby(1))
SPARE = (*WHOLE, standby(2))


class Play:
    """One pass over members, snapshots and anchors."""

    def __init__(
        self,
        *members: Member,
        snapshots: tuple[SnapshotFacts, ...] | None = (),
        anchors: tuple[SlotFacts, ...] = (),
        wanted: dict[str, Any] | None = None,
        memory: SetMemory | None = None,
        timeline: int = 1,
        facts: dict[str, Any] | None = None,
        **targets: Any,
    ) -> None:
        parts = {"className": "csi-snap", "maxAge": "1h", "maxWALBehind": "100Mi", **(wanted or {})}
        body = make_set(provisioning={"snapshots": parts} if wanted is not None or wanted is None else {})
        body["spec"]["storage"] = {"size": "10Gi"}
        self.spec = parse_spec(ReplicaSetSpec, body)
        primary = replace(make_primary(timeline=timeline), marks=(replace(make_mark(0.0, FLUSH, timeline)),))
        self.facts: SetFacts = replace(
            make_facts(), primary=primary, snapshots=snapshots, anchors=anchors, **(facts or {})
        )
        self.members = judge(*members)
        self.memory = memory or SetMemory(began_at=0.0)
        self.targets = make_targets(**targets)

    def without_snapshots(self) -> "Play":
        body = make_set()
        self.spec = parse_spec(ReplicaSetSpec, body)
        return self

    def with_server(self, slots_used: int = 0, **settings: str) -> "Play":
        """With so many slots in use on the primary, and these settings of it."""
        assert self.facts.primary is not None
        server = replace(SERVER, slots_used=slots_used, settings={**SERVER.settings, **settings})
        view = replace(self.facts.primary.view, server=server)
        self.facts = replace(self.facts, primary=replace(self.facts.primary, view=view))
        return self

    @property
    def scene(self) -> Scene:
        found = build_scene(self.spec, self.facts, self.members, self.memory, wal_cap=512 * MIB, now=AT)
        assert found is not None
        return found

    @property
    def need(self) -> SnapshotNeed:
        return decide_need(self.scene, self.targets)

    def plans(self) -> tuple[Plan, SnapshotPlan]:
        need = self.need
        targets = replace(self.targets, keeps_one_more=need.keeps_one_more, begins_one_more=need.begins_one_more)
        plan = decide_plan(self.members, targets, NOW)
        return plan, decide_snapshots(self.scene, need, plan, targets)

    @property
    def steps(self) -> SnapshotPlan:
        return self.plans()[1]

    @property
    def shown(self) -> tuple[Truth, Reason, str]:
        found = describe_freshness(self.spec, self.facts, self.scene, self.need)
        return found.status, found.finding.reason, found.finding.message
