"""The stage of a member, case by case: what was found, where it stands, and what is said."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.model.conditions import Finding
from headroom.model.database import BackupProgress
from headroom.model.replica import ContainerFacts, Role, Stage
from headroom.policy.replicaset.drain import DrainStep, decide_drain
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import LagVerdict, NotEligible, ReplayLag, is_beyond, is_within
from headroom.policy.replicaset.stages import decide_stage
from headroom.policy.replicaset.timeouts import retry_after
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BETWEEN,
    BEYOND,
    BOUNDS,
    LIMITS,
    NOW,
    UNKNOWN,
    WITHIN,
    context,
    make_claim,
    make_member,
    make_pod,
    make_probe,
    make_slot,
)

NEW = Role.PROVISIONING


def old(minutes: float) -> Any:
    return NOW - timedelta(minutes=minutes)


def seeding(**seed: Any) -> Member:
    pod = make_pod(NEW, is_ready=False, phase="Pending", server=ContainerFacts(), seed=ContainerFacts(**seed))
    return make_member(NEW, pod=pod, probe=None, lag=None, within=0)


def later(member: Member) -> Member:
    assert member.pod is not None
    return replace(member, pod=replace(member.pod, created_at=NOW - timedelta(minutes=16)))


def backup(phase: str, done: int = 50) -> BackupProgress:
    return BackupProgress("hr_a_b_0_a", phase, done, 100)


def serving(**server: Any) -> Member:
    return make_member(NEW, pod=make_pod(NEW, is_ready=False, server=ContainerFacts(**server)), probe=None, lag=None)


CASES: dict[str, tuple[Member, Stage, Reason, bool]] = {
    "nothing but a slot": (make_member(None), Stage.SEEDED, Reason.IN_PROGRESS, False),
    "no slot yet": (make_member(None, slot=None), Stage.SLOT_RESERVED, Reason.SLOT_PENDING, False),
    "slot lost": (make_member(slot=make_slot(wal_status="lost")), Stage.SLOT_RESERVED, Reason.SLOT_LOST, True),
    "marked to go": (make_member(claim=make_claim(retire=Reason.RETIRED)), Stage.RETIRED, Reason.RETIRED, False),
    "claim deleted by somebody": (
        make_member(claim=make_claim(is_deleting=True)),
        Stage.RETIRED,
        Reason.VOLUME_NOT_BOUND,
        False,
    ),
    "claim of a member in the making deleted by somebody": (
        make_member(NEW, claim=make_claim(is_deleting=True)),
        Stage.RETIRED,
        Reason.VOLUME_NOT_BOUND,
        True,
    ),
    "young claim without volume": (
        make_member(None, claim=make_claim(is_bound=False)),
        Stage.SEEDED,
        Reason.IN_PROGRESS,
        False,
    ),
    "claim without volume for a minute": (
        make_member(None, claim=make_claim(is_bound=False, created_at=old(1))),
        Stage.SEEDED,
        Reason.VOLUME_NOT_BOUND,
        False,
    ),
    "claim that never binds": (
        make_member(None, claim=make_claim(is_bound=False, created_at=old(16))),
        Stage.SEEDED,
        Reason.VOLUME_NOT_BOUND,
        True,
    ),
    "no node fits": (
        make_member(NEW, pod=make_pod(NEW, unschedulable="0/1 nodes are available")),
        Stage.SEEDED,
        Reason.POD_UNSCHEDULABLE,
        False,
    ),
    "image cannot be pulled": (seeding(waiting="ErrImagePull"), Stage.SEEDED, Reason.IMAGE_NOT_PULLED, False),
    "pod ended": (make_member(pod=make_pod(phase="Failed")), Stage.SEEDED, Reason.IN_PROGRESS, False),
    "pod starting": (seeding(), Stage.SEEDED, Reason.IN_PROGRESS, False),
    "seed step failed once": (
        seeding(restarts=1, waiting="CrashLoopBackOff", message="pg_basebackup: error: no"),
        Stage.SEEDED,
        Reason.SEED_FAILED,
        False,
    ),
    "seed step that the primary refuses to log in": (
        seeding(restarts=1, is_running=True, message='FATAL:  password authentication failed for user "r"'),
        Stage.SEEDED,
        Reason.REPLICATION_LOGIN_FAILED,
        False,
    ),
    "seed step failed for good": (seeding(restarts=3, is_running=True), Stage.SEEDED, Reason.SEED_FAILED, True),
    "image of another major version": (
        seeding(exit_code=3, message="seed: the image holds postgres 16, the primary is of major version 17"),
        Stage.SEEDED,
        Reason.MAJOR_VERSION_MISMATCH,
        False,
    ),
    "image of another major version for long": (
        later(seeding(exit_code=3, message="seed: the image holds postgres 16, the primary is of major version 17")),
        Stage.SEEDED,
        Reason.MAJOR_VERSION_MISMATCH,
        True,
    ),
    "copy of another member": (
        seeding(exit_code=3, message="seed: the volume holds the copy of another member"),
        Stage.SEEDED,
        Reason.SEED_FAILED,
        True,
    ),
    "server ends again and again": (
        replace(
            serving(restarts=6, waiting="CrashLoopBackOff", message="FATAL: bad parameter"),
            server_restarts=6,
        ),
        Stage.STREAMING,
        Reason.POD_FAILING,
        True,
    ),
    "server ended often in the months before": (
        serving(restarts=60, waiting="CrashLoopBackOff", message="FATAL: terminating"),
        Stage.STREAMING,
        Reason.REPLAYING,
        False,
    ),
    "seed step of a filled volume runs for the fourth time": (
        make_member(
            Role.SERVING, pod=make_pod(Role.SERVING, is_ready=False, seed=ContainerFacts(is_running=True, restarts=3))
        ),
        Stage.SEEDED,
        Reason.SEEDING,
        False,
    ),
    "seed step of a filled volume takes long to look": (
        make_member(pod=make_pod(is_ready=False, seed=ContainerFacts(is_running=True)), still_seconds=900),
        Stage.SEEDED,
        Reason.SEEDING,
        False,
    ),
    "server replays": (serving(is_running=True), Stage.STREAMING, Reason.REPLAYING, False),
    "server accepts but does not answer us": (
        make_member(NEW, probe=None, unanswered=2),
        Stage.STREAMING,
        Reason.MEMBER_UNREACHABLE,
        False,
    ),
    "server with no connection left": (
        make_member(Role.DRAINING, unanswered=1, is_full=True, lag=None),
        Stage.STREAMING,
        Reason.NO_CONNECTION_LEFT,
        False,
    ),
    "server that nobody asked": (make_member(probe=None, lag=None, within=0), Stage.STANDBY, Reason.AS_EXPECTED, False),
    "server of a new member that nobody asked": (
        make_member(NEW, probe=None, lag=None, within=0),
        Stage.STREAMING,
        Reason.MEMBER_UNREACHABLE,
        False,
    ),
    "server that nobody asked and that is not ready": (
        make_member(pod=make_pod(is_ready=False), probe=None, lag=None, within=0),
        Stage.STREAMING,
        Reason.REPLAYING,
        False,
    ),
    "receiver is down": (
        make_member(lag=NotEligible(Reason.NOT_STREAMING, "down")),
        Stage.STREAMING,
        Reason.NOT_STREAMING,
        False,
    ),
    "slot of the last one that serves is lost": (
        make_member(Role.SERVING, slot=make_slot(wal_status="lost")),
        Stage.SLOT_RESERVED,
        Reason.SLOT_LOST,
        False,
    ),
    "promoted": (
        make_member(lag=NotEligible(Reason.MEMBER_PROMOTED, "")),
        Stage.STREAMING,
        Reason.MEMBER_PROMOTED,
        True,
    ),
    "another timeline for a moment": (
        make_member(lag=NotEligible(Reason.TIMELINE_DIVERGED, ""), refused_seconds=5),
        Stage.STREAMING,
        Reason.TIMELINE_DIVERGED,
        False,
    ),
    "another timeline for good": (
        make_member(divergence=Finding(Reason.TIMELINE_DIVERGED, "")),
        Stage.STREAMING,
        Reason.TIMELINE_DIVERGED,
        True,
    ),
    "another timeline for long, and nobody knows whether for good": (
        make_member(lag=NotEligible(Reason.TIMELINE_DIVERGED, ""), refused_seconds=90),
        Stage.STREAMING,
        Reason.TIMELINE_DIVERGED,
        False,
    ),
    "node lost": (
        make_member(
            Role.SERVING,
            pod=make_pod(Role.SERVING, is_ready=False),
            silent_seconds=90,
            unanswered=9,
            is_node_lost=True,
        ),
        Stage.STREAMING,
        Reason.NODE_LOST,
        True,
    ),
    "silent on a live node": (
        make_member(pod=make_pod(is_ready=False), silent_seconds=900, unanswered=9),
        Stage.STREAMING,
        Reason.REPLAYING,
        False,
    ),
    "deleted and still there": (
        make_member(pod=make_pod(is_ready=False, is_deleting=True, ends_at=old(2))),
        Stage.STREAMING,
        Reason.NODE_LOST,
        True,
    ),
    "server ended once": (serving(restarts=1, message="FATAL: oh"), Stage.STREAMING, Reason.REPLAYING, False),
    "caught up once": (make_member(NEW, within=1), Stage.CAUGHT_UP, Reason.REPLAYING, False),
    "far behind": (
        make_member(NEW, lag=BEYOND, within=0),
        Stage.CAUGHT_UP,
        Reason.REPLAY_LAG_ABOVE_LIMIT,
        False,
    ),
    "caught up twice": (make_member(NEW), Stage.STANDBY, Reason.AS_EXPECTED, False),
    "standby between the bounds": (make_member(lag=BETWEEN), Stage.STANDBY, Reason.AS_EXPECTED, False),
    "standby beyond them": (make_member(lag=BEYOND), Stage.CAUGHT_UP, Reason.REPLAY_LAG_ABOVE_LIMIT, False),
    "serving": (make_member(Role.SERVING), Stage.SERVING, Reason.AS_EXPECTED, False),
    "draining": (make_member(Role.DRAINING), Stage.DRAINING, Reason.REPLICAS_SET, False),
}


@pytest.mark.parametrize("name", CASES)
def test_stage(name: str) -> None:
    member, stage, reason, is_failed = CASES[name]
    verdict = decide_stage(member, context())
    assert (verdict.stage, verdict.reason, verdict.is_failed) == (stage, reason, is_failed)


@pytest.mark.parametrize(
    ("phase", "still", "is_failed"),
    [
        ("streaming database files", 60, False),
        ("streaming database files", 130, True),
        ("waiting for checkpoint to finish", 130, False),
        ("waiting for checkpoint to finish", 700, True),
    ],
)
def test_a_copy_fails_by_lack_of_progress_not_by_a_deadline(phase: str, still: float, is_failed: bool) -> None:
    pod = make_pod(NEW, is_ready=False, created_at=old(600), seed=ContainerFacts(is_running=True))
    member = make_member(NEW, pod=pod, probe=None, lag=None, backup=backup(phase), still_seconds=still)
    verdict = decide_stage(member, context())
    assert verdict.is_failed is is_failed
    assert verdict.progress_percent == 50


@pytest.mark.parametrize(
    ("cause", "setting"),
    [
        ("idle_timeout", "idle_replication_slot_timeout"),
        ("wal_removed", "max_slot_wal_keep_size"),
        (None, "max_slot_wal_keep_size"),
    ],
)
@pytest.mark.parametrize("stopped", [{}, {"snapshot": "store-s-b"}])
def test_the_verdict_on_a_lost_slot_names_the_setting_that_took_it(
    cause: str | None, setting: str, stopped: dict[str, str]
) -> None:
    slot = make_slot(is_active=False, restart_lsn=None, wal_status="lost", invalidation=cause)
    verdict = decide_stage(make_member(slot=slot, claim=make_claim(**stopped)), context())
    assert (verdict.reason, verdict.is_failed) == (Reason.SLOT_LOST, True)
    assert f"raise {setting}" in verdict.message
    assert slot.name in verdict.message


def test_without_a_primary_no_missing_slot_is_believed() -> None:
    assert (
        decide_stage(make_member(Role.SERVING, slot=None, lag=None), context(has_primary=False)).stage is Stage.SERVING
    )


@pytest.mark.parametrize(
    ("lag", "within", "beyond"),
    [
        (WITHIN, True, False),
        (BETWEEN, False, False),
        (BEYOND, False, True),
        (ReplayLag(60.0, 0), False, True),
        (ReplayLag(0.0, 1024**3), False, False),
        (None, False, False),
        (UNKNOWN, False, False),
        (NotEligible(Reason.NOT_STREAMING, ""), False, False),
    ],
)
def test_seconds_and_bytes_let_in_and_seconds_alone_put_out(lag: LagVerdict | None, within: bool, beyond: bool) -> None:
    assert is_within(lag, BOUNDS) is within
    assert is_beyond(lag, BOUNDS) is beyond


def draining(seconds: float, why: Reason, sessions: int, **changes: Any) -> Member:
    pod = make_pod(Role.DRAINING, draining_since=NOW - timedelta(seconds=seconds), why=why)
    return make_member(Role.DRAINING, pod=pod, probe=make_probe(sessions=sessions), **changes)


BY_CHOICE, BY_LAG = Reason.REPLICAS_SET, Reason.REPLAY_LAG_ABOVE_LIMIT


@pytest.mark.parametrize(
    ("member", "want"),
    [
        (draining(30, BY_CHOICE, 0, is_listed=True), DrainStep.WAIT),
        (draining(1, BY_CHOICE, 0), DrainStep.WAIT),
        (draining(3, BY_CHOICE, 0), DrainStep.DONE),
        (draining(30, BY_CHOICE, 4), DrainStep.WAIT),
        (draining(61, BY_CHOICE, 4), DrainStep.END_ALL),
        (draining(71, BY_CHOICE, 4), DrainStep.DONE),
        (draining(3, BY_LAG, 4), DrainStep.END_IDLE),
        (draining(11, BY_LAG, 4), DrainStep.END_ALL),
        (draining(30, BY_CHOICE, 0, unanswered=2), DrainStep.WAIT),
    ],
)
def test_sessions_leave_by_choice_in_peace_and_after_an_ejection_soon(member: Member, want: DrainStep) -> None:
    assert decide_drain(member, LIMITS, NOW) is want


def test_retries_double_up_to_ten_minutes() -> None:
    assert [retry_after(n).total_seconds() for n in (1, 2, 3, 7, 50)] == [10, 20, 40, 600, 600]


def test_a_pause_never_shortens_with_another_failure_and_never_exceeds_ten_minutes() -> None:
    pauses = [retry_after(attempts).total_seconds() for attempts in range(60)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (10, 600)


def test_a_verdict_depends_on_nothing_but_what_was_found() -> None:
    for member, *_ in CASES.values():
        assert decide_stage(member, context()) == decide_stage(replace(member), context())


@pytest.mark.parametrize("role", [Role.PROVISIONING, Role.STANDBY])
def test_a_member_that_clients_cannot_verify_yet_is_no_standby(role: Role) -> None:
    verdict = decide_stage(make_member(role, is_published=False), context())
    assert (verdict.stage, verdict.reason) == (Stage.CAUGHT_UP, Reason.CERTIFICATE_NOT_PUBLISHED)
    assert not verdict.is_failed
    assert not verdict.is_due_for_replacement


@pytest.mark.parametrize("role", [Role.SERVING, Role.DRAINING])
def test_a_member_that_serves_does_not_leave_because_somebody_edits_the_certificates(role: Role) -> None:
    member = make_member(role)
    assert decide_stage(replace(member, is_published=False), context()) == decide_stage(member, context())
