"""Builders of facts, and Hypothesis strategies over them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.conditions import Finding
from headroom.model.database import (
    ConnectionTarget,
    Credentials,
    DatabaseView,
    Lsn,
    Mark,
    ReplicaProbe,
    ServerFacts,
    SlotFacts,
)
from headroom.model.libraries import CollationFacts, DatabaseLibraries, ServerLibraries
from headroom.model.replica import ClaimFacts, ContainerFacts, MemberId, PodFacts, Role
from headroom.policy.replicaset.drain import DrainLimits
from headroom.policy.replicaset.facts import Answer, MemberFacts, PrimaryFacts, SetFacts
from headroom.policy.replicaset.members import EvaluatedMember, Member, StageContext
from headroom.policy.replicaset.replay_lag import LagUnknown, NotEligible, ReplayLag
from headroom.policy.replicaset.stages import decide_stage
from headroom.policy.replicaset.stream_loss import find_streaming
from headroom.policy.replicaset.targets import Targets
from headroom.reasons import Reason

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOUNDS = Readiness()
LIMITS = DrainLimits(timedelta(seconds=60), timedelta(seconds=10))
WITHIN, BEYOND = ReplayLag(0.1, 0), ReplayLag(60.0, 1024**3)
BETWEEN = ReplayLag(5.0, 32 * 1024**2)
UNKNOWN = LagUnknown(Reason.READS_UNBOUNDED, "the primary last answered 9 s ago")


def make_probe(**changes: Any) -> ReplicaProbe:
    probe = ReplicaProbe(
        probed_at=0.0,
        answered_at=0.0,
        server_name="store-0-a",
        is_in_recovery=True,
        system_identifier="1",
        version=170000,
        replay_lsn=Lsn(1),
        receive_lsn=Lsn(1),
        timeline=1,
        is_streaming=True,
        is_replay_paused=False,
        sessions=0,
        active_sessions=0,
        max_connections=100,
    )
    return replace(probe, **changes)


def make_pod(role: Role = Role.STANDBY, **changes: Any) -> PodFacts:
    pod = PodFacts(
        name="store-0-a",
        uid="u",
        resource_version="1",
        role=role,
        created_at=NOW,
        phase="Running",
        is_ready=True,
        ip="10.0.0.1",
        template="new",
        seed=ContainerFacts(is_done=True, exit_code=0),
        server=ContainerFacts(is_running=True),
    )
    return replace(pod, **changes)


def make_claim(**changes: Any) -> ClaimFacts:
    return replace(ClaimFacts("store-0-a", "c", "1", NOW, is_bound=True), **changes)


def make_slot(**changes: Any) -> SlotFacts:
    return replace(SlotFacts("hr_a_b_0_a", True, Lsn(1), "reserved", False), **changes)


def make_member(role: Role | None = Role.STANDBY, ordinal: int = 0, **changes: Any) -> Member:
    """A healthy member of this role that is caught up; without a role it has neither pod nor claim."""
    member = MemberId(ordinal, "a")
    facts = Member(member, member.object_name("store"), f"hr_a_b_{ordinal}_a", slot=make_slot())
    if role is not None:
        since = NOW - timedelta(seconds=5) if role is Role.DRAINING else None
        why = Reason.REPLICAS_SET if role is Role.DRAINING else None
        pod = make_pod(role, name=facts.name, uid=f"u{ordinal}", draining_since=since, why=why)
        facts = replace(
            facts,
            pod=pod,
            claim=make_claim(name=facts.name),
            probe=make_probe(),
            lag=WITHIN,
            within=2,
            is_listed=role is Role.SERVING,
        )
    return replace(facts, **changes)


def context(**changes: Any) -> StageContext:
    return replace(StageContext(NOW, has_primary=True, readiness=BOUNDS, stall_timeout=timedelta(minutes=2)), **changes)


def judge(*members: Member, has_primary: bool = True) -> list[EvaluatedMember]:
    near = context(has_primary=has_primary, streaming=find_streaming(members))
    return [EvaluatedMember(member, decide_stage(member, near)) for member in members]


def make_targets(**changes: Any) -> Targets:
    targets = Targets(
        desired=1,
        standbys=1,
        max_concurrent=1,
        bounds=BOUNDS,
        drain=LIMITS,
        why=Reason.REPLICAS_SET,
        template="new",
    )
    return replace(targets, **changes)


LIBRARIES = ServerLibraries(
    server_name="",
    preloaded="pg_stat_statements, pg_cron",
    available=frozenset({("plpgsql", "1.0"), ("postgis", "3.4.0"), ("postgis", "3.5.0")}),
    databases=(
        DatabaseLibraries(
            "store",
            (
                CollationFacts("default", "c", "2.36", "2.36"),
                CollationFacts("public.german", "i", "153.120", "153.120"),
            ),
            (("plpgsql", "1.0"), ("postgis", "3.4.0")),
        ),
        DatabaseLibraries("stock", (CollationFacts("default", "c", "2.36", "2.36"),), (("plpgsql", "1.0"),)),
    ),
)
SYSTEM = "1"
SERVER = ServerFacts(
    system_identifier=SYSTEM,
    version=170002,
    is_in_recovery=False,
    timeline=1,
    flush_lsn=None,
    settings={
        "wal_level": "replica",
        "full_page_writes": "on",
        "max_wal_senders": "10",
        "max_replication_slots": "10",
        "max_slot_wal_keep_size": "1024",
        "synchronous_standby_names": "",
    },
    wal_senders_used=2,
    slots_used=2,
    is_direct=True,
)
TARGET = ConnectionTarget("primary", 5432, "store", Credentials("monitor", "m"), "disable")


def make_mark(at: float, lsn: int = 500, timeline: int = 1) -> Mark:
    return Mark(at, Lsn(lsn), None, timeline, SYSTEM)


def make_primary(at: float = 0.0, *, timeline: int = 1, has_slot_link: bool = True, **changes: Any) -> PrimaryFacts:
    """A primary that is ready and answers at LSN 500; `changes` are of the view."""
    view = DatabaseView(
        "g",
        is_ready=True,
        finding=Finding(Reason.CONNECTED, ""),
        observed_at=at,
        target=TARGET,
        replication=Credentials("replication", "r"),
        server=SERVER,
    )
    return PrimaryFacts(replace(view, **changes), (make_mark(at, timeline=timeline),), has_slot_link)


def answer(at: float, lsn: int = 500, **changes: Any) -> Answer:
    """What a member of the primary that `make_mark` marks answers; caught up unless told."""
    position = {"receive_lsn": Lsn(lsn), "replay_lsn": Lsn(lsn)}
    return Answer(make_probe(probed_at=at, answered_at=at, system_identifier=SYSTEM, **{**position, **changes}))


def make_found(ordinal: int = 0, **changes: Any) -> MemberFacts:
    """A member as found: a standby that nobody asked."""
    member = MemberId(ordinal, "a")
    name, slot = member.object_name("store"), f"hr_a_b_{ordinal}_a"
    facts = MemberFacts(
        member,
        name,
        slot,
        pod=make_pod(name=name, uid=f"u{ordinal}"),
        claim=make_claim(name=name),
        slot=make_slot(name=slot),
        libraries=replace(LIBRARIES, server_name=name),
    )
    return replace(facts, **changes)


def make_facts(*found: MemberFacts, at: float = 0.0, **changes: Any) -> SetFacts:
    """Facts of a set whose primary answers at that monotonic second."""
    facts = SetFacts("store", 1, found, make_primary(at), None, template="new", libraries=LIBRARIES)
    return replace(facts, **changes)


@st.composite
def members(draw: st.DrawFn, ordinal: int) -> Member:
    """Any member: every role, healthy or broken in any of the ways a pass can meet."""
    role = draw(st.sampled_from([None, *Role]))
    facts = make_member(role, ordinal)
    if role is None or facts.pod is None:
        return replace(facts, claim=draw(st.sampled_from([None, make_claim(name=facts.name)])))
    pod = replace(
        facts.pod,
        is_ready=draw(st.booleans()),
        is_deleting=draw(st.sampled_from([False, False, True])),
        phase=draw(st.sampled_from(["Running", "Running", "Failed"])),
        template=draw(st.sampled_from(["new", "old"])),
        draining_since=NOW - timedelta(seconds=draw(st.integers(0, 120))) if role is Role.DRAINING else None,
    )
    refusals = [NotEligible(reason, "") for reason in (Reason.MEMBER_PROMOTED, Reason.NOT_STREAMING)]
    retire = draw(st.sampled_from([None, None, None, Reason.RETIRED]))
    return replace(
        facts,
        pod=pod,
        claim=make_claim(name=facts.name, retire=retire),
        lag=draw(st.sampled_from([None, WITHIN, WITHIN, BETWEEN, BEYOND, *refusals])),
        beyond=draw(st.integers(0, 3)),
        within=draw(st.integers(0, 3)),
        unanswered=draw(st.sampled_from([0, 0, 1, 5])),
        refused_seconds=draw(st.sampled_from([0.0, 30.0])),
        counted_age=draw(st.sampled_from([0.0, 30.0])),
        behind_seconds=draw(st.sampled_from([None, None, None, 30.0, 90.0])),
        broken_seconds=draw(st.sampled_from([0.0, 0.0, 300.0, 900.0])),
        slot=draw(st.sampled_from([make_slot(), make_slot(), make_slot(restart_lsn=Lsn(9)), None])),
        silent_seconds=draw(st.sampled_from([0.0, 30.0, 90.0])),
        is_listed=draw(st.booleans()),
        library_fault=draw(st.sampled_from([None, None, None, Finding(Reason.EXTENSION_MISSING, "postgis")])),
        probe=make_probe(sessions=draw(st.integers(0, 100)), active_sessions=0),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Member], Targets]:
    """Members and targets of any kind."""
    count = draw(st.integers(0, 6))
    found = [draw(members(ordinal)) for ordinal in range(count)]
    targets = make_targets(
        desired=draw(st.integers(0, 4)),
        standbys=draw(st.integers(0, 2)),
        max_concurrent=draw(st.integers(1, 3)),
        has_primary=draw(st.booleans()),
        may_reserve=draw(st.booleans()),
        is_acting=draw(st.sampled_from([True, True, False])),
    )
    return found, targets
