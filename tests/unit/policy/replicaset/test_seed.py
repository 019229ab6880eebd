"""Whether a member has its copy, and what is said while it has not."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.model.database import BackupProgress
from headroom.model.moments import Moment
from headroom.model.replica import ContainerFacts, Role, Stage
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.decide import decide
from headroom.policy.replicaset.members import Member, StageVerdict
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.seed import IMAGE_ERRORS, check_pod, check_seed, check_volume
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import NOW, context, make_claim, make_facts, make_found, make_member, make_pod
from tests.unit.policy.replicaset.test_decide import make_spec

NEW = Role.PROVISIONING


def ago(minutes: float) -> Any:
    return NOW - timedelta(minutes=minutes)


def seeding(role: Role = NEW, minutes: float = 0, still: float = 0, **seed: Any) -> Member:
    pod = make_pod(role, is_ready=False, created_at=ago(minutes), server=ContainerFacts(), seed=ContainerFacts(**seed))
    return make_member(role, pod=pod, probe=None, lag=None, within=0, still_seconds=still)


def found(verdict: StageVerdict | None) -> tuple[Reason, bool]:
    assert verdict is not None
    assert verdict.stage is Stage.SEEDED
    assert verdict.message
    return verdict.reason, verdict.is_failed


def test_a_volume_is_asked_for_and_waited_for() -> None:
    assert found(check_volume(make_member(None), context())) == (Reason.IN_PROGRESS, False)
    assert check_volume(make_member(NEW), context()) is None


@pytest.mark.parametrize(
    ("minutes", "want"),
    [
        (0.2, (Reason.IN_PROGRESS, False)),
        (1, (Reason.VOLUME_NOT_BOUND, False)),
        (14, (Reason.VOLUME_NOT_BOUND, False)),
        (16, (Reason.VOLUME_NOT_BOUND, True)),
    ],
)
def test_a_claim_without_a_volume_is_reported_and_then_given_up(minutes: float, want: tuple[Reason, bool]) -> None:
    member = make_member(None, claim=make_claim(is_bound=False, created_at=ago(minutes)))
    assert found(check_volume(member, context())) == want


@pytest.mark.parametrize(
    ("unschedulable", "is_told"),
    [
        ("0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind", True),
        ("0/1 nodes are available: 1 node(s) did not have enough free storage", True),
        ("pod has unbound immediate PersistentVolumeClaims", False),
    ],
)
def test_what_the_scheduler_says_of_volumes_is_told_unless_it_is_the_claim_itself(
    unschedulable: str, is_told: bool
) -> None:
    claim = make_claim(is_bound=False, created_at=ago(1))
    member = make_member(NEW, claim=claim, pod=make_pod(NEW, unschedulable=unschedulable))
    verdict = check_volume(member, context())
    assert verdict is not None
    assert (unschedulable in verdict.message) is is_told
    assert "storage.storageClassName" in verdict.message


@pytest.mark.parametrize(("minutes", "is_failed"), [(4, False), (14.5, False), (16, True)])
def test_a_claim_that_waits_only_for_a_node_is_judged_by_its_pod(minutes: float, is_failed: bool) -> None:
    """With late binding there is no volume before a node takes the pod, and a node autoscaler takes minutes."""
    pod = make_pod(NEW, unschedulable="0/3 nodes are available: 3 Insufficient cpu", created_at=ago(minutes))
    member = make_member(NEW, claim=make_claim(is_bound=False, created_at=ago(minutes)), pod=pod)
    assert check_volume(member, context()) is None
    verdict = check_pod(member, context())
    assert found(verdict) == (Reason.POD_UNSCHEDULABLE, is_failed)
    assert verdict is not None
    assert "Insufficient cpu" in verdict.message


def test_nothing_is_given_up_within_fifteen_minutes_for_want_of_a_place() -> None:
    assert timedelta(minutes=15) <= timeouts.PLACE_LIMIT


def test_a_pod_is_made_and_recreated() -> None:
    assert found(check_pod(make_member(None), context())) == (Reason.IN_PROGRESS, False)
    for changes, words in (({"is_deleting": True}, "is ending"), ({"phase": "Failed"}, "ended (Failed)")):
        verdict = check_pod(make_member(pod=make_pod(**changes)), context())
        assert found(verdict) == (Reason.IN_PROGRESS, False)
        assert verdict is not None
        assert words in verdict.message
    assert check_pod(make_member(), context()) is None


@pytest.mark.parametrize(
    ("role", "minutes", "is_failed"), [(NEW, 14, False), (NEW, 16, True), (Role.STANDBY, 16, False)]
)
def test_a_pod_that_no_node_takes_is_given_up_only_while_it_has_nothing(
    role: Role, minutes: float, is_failed: bool
) -> None:
    pod = make_pod(role, unschedulable="0/3 nodes are available", created_at=ago(minutes))
    assert found(check_pod(make_member(role, pod=pod), context())) == (Reason.POD_UNSCHEDULABLE, is_failed)


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        (
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {a: b}",
            "lower spec.resources.requests or add a node",
        ),
        (
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules",
            "ease spec.template (affinity, tolerations) or add a node",
        ),
    ],
)
def test_a_pod_that_no_node_takes_is_told_with_what_to_do(why: str, remedy: str) -> None:
    verdict = check_pod(make_member(NEW, pod=make_pod(NEW, unschedulable=why)), context())
    assert verdict is not None
    assert verdict.message == f"no node takes it: {why}; {remedy}"


@pytest.mark.parametrize("waiting", IMAGE_ERRORS)
@pytest.mark.parametrize("box", ["seed", "server"])
def test_an_image_that_cannot_be_pulled_is_named(waiting: str, box: str) -> None:
    pod = make_pod(NEW, **{box: ContainerFacts(waiting=waiting, image="postgres:71")})
    verdict = check_pod(make_member(NEW, pod=pod), context())
    assert found(verdict) == (Reason.IMAGE_NOT_PULLED, False)
    assert verdict is not None
    assert verdict.message == f"the image postgres:71 cannot be pulled: {waiting}; check spec.image and the pull secret"
    later = replace(pod, created_at=ago(16))
    assert found(check_pod(make_member(NEW, pod=later), context())) == (Reason.IMAGE_NOT_PULLED, True)


NOT_FOUND = 'failed to resolve reference "docker.io/library/postgres:71": docker.io/library/postgres:71: not found'
RPC = f"rpc error: code = NotFound desc = {NOT_FOUND}"


@pytest.mark.parametrize(
    ("waiting", "why", "says"),
    [
        ("ErrImagePull", RPC, NOT_FOUND),
        ("ImagePullBackOff", f'Back-off pulling image "postgres:71": ErrImagePull: {RPC}', NOT_FOUND),
        ("ImagePullBackOff", 'Back-off pulling image "postgres:71": ErrImagePull: denied', "ErrImagePull: denied"),
        ("ImagePullBackOff", 'Back-off pulling image "postgres:71"', "ImagePullBackOff"),
        ("ErrImagePull", "", "ErrImagePull"),
        (
            "InvalidImageName",
            'Failed to apply default image tag "a b":\n couldn\'t parse',
            "Failed to apply default image",
        ),
        ("ErrImagePull", "x" * 5000, f"{'x' * 300}…"),
    ],
)
def test_what_the_registry_said_of_an_image_is_quoted(waiting: str, why: str, says: str) -> None:
    """In the same words while a pull is tried and between two tries, so that nothing is written for the change."""
    pod = make_pod(NEW, seed=ContainerFacts(waiting=waiting, waiting_why=why, image="postgres:71"))
    verdict = check_pod(make_member(NEW, pod=pod), context())
    assert verdict is not None
    assert verdict.message.startswith(f"the image postgres:71 cannot be pulled: {says}")
    assert len(verdict.message) < 420


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("seed: the image holds postgres 16, the primary is of major version 17", Reason.MAJOR_VERSION_MISMATCH),
        ('FATAL:  password authentication failed for user "r"', Reason.REPLICATION_LOGIN_FAILED),
        ("FATAL:  no pg_hba.conf entry for replication connection", Reason.REPLICATION_LOGIN_FAILED),
        ("FATAL:  permission denied to start WAL sender", Reason.REPLICATION_LOGIN_FAILED),
        ("could not write to file: No space left on device", Reason.SEED_FAILED),
    ],
)
def test_a_copy_that_failed_is_told_by_its_cause_and_tried_again(message: str, reason: Reason) -> None:
    verdict = check_seed(seeding(restarts=1, is_running=True, message=message), context())
    assert found(verdict) == (reason, False)
    assert verdict is not None
    assert message in verdict.message
    assert ("replicationSecretRef" in verdict.message) is (reason is Reason.REPLICATION_LOGIN_FAILED)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("seed: the image holds postgres 16, the primary is of major version 17", Reason.MAJOR_VERSION_MISMATCH),
        ("seed: the image has no flock (of util-linux or busybox)", Reason.IMAGE_INCOMPLETE),
        ("seed: the image has no pg_controldata", Reason.IMAGE_INCOMPLETE),
    ],
)
@pytest.mark.parametrize(
    ("role", "minutes", "is_failed"),
    [(NEW, 14, False), (NEW, 16, True), (Role.STANDBY, 16, False), (Role.SERVING, 16, False)],
)
def test_an_image_that_does_not_fit_costs_no_member_its_copy(
    message: str, reason: Reason, role: Role, minutes: float, is_failed: bool
) -> None:
    refused = ContainerFacts(restarts=2, exit_code=3, message=message)
    pod = make_pod(role, seed=refused, created_at=ago(minutes))
    assert found(check_seed(make_member(role, pod=pod), context())) == (reason, is_failed)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (
            "seed: the image holds postgres (PostgreSQL) 16.4, the primary is of major version 17",
            "; set spec.image to PostgreSQL 17",
        ),
        ("seed: the image has no pg_controldata", "; set spec.image to one that has it"),
        ("seed: the copy has no backup_label", ""),
    ],
)
@pytest.mark.parametrize("exit_code", [1, 3])
def test_an_image_that_does_not_fit_is_told_with_the_one_that_does(message: str, remedy: str, exit_code: int) -> None:
    refused = ContainerFacts(restarts=2, exit_code=exit_code, message=message)
    verdict = check_seed(make_member(NEW, pod=make_pod(NEW, seed=refused)), context())
    assert verdict is not None
    assert verdict.message.endswith(f"{message}{remedy}")


@pytest.mark.parametrize(("minutes", "is_failed"), [(16, False), (74, False), (76, True)])
def test_a_volume_is_awaited_as_long_as_its_server_may_drain(minutes: float, is_failed: bool) -> None:
    waiting = ContainerFacts(is_running=True, restarts=9, exit_code=4, message="seed: another pod's server")
    pod = make_pod(NEW, seed=waiting, created_at=ago(minutes))
    verdict = check_seed(make_member(NEW, pod=pod), context(drain_timeout=timedelta(hours=1)))
    assert found(verdict) == (Reason.VOLUME_IN_USE, is_failed)


def test_a_set_with_a_long_drain_waits_for_a_volume_in_use() -> None:
    waiting = ContainerFacts(is_running=True, restarts=9, exit_code=4, message="seed: another pod's server")
    facts = make_facts(make_found(pod=make_pod(NEW, seed=waiting, created_at=ago(20))))
    decisions = [
        decide(make_spec(drain={"timeout": timeout}), facts, SetMemory(), Moment(0.0, NOW)).decision
        for timeout in ("1m", "1h")
    ]
    assert [decision.members[0].verdict.is_failed for decision in decisions] == [True, False]


@pytest.mark.parametrize(
    ("role", "minutes", "is_failed"), [(NEW, 14, False), (NEW, 16, True), (Role.STANDBY, 16, False)]
)
def test_a_volume_that_an_earlier_pod_still_uses_is_no_failed_copy(role: Role, minutes: float, is_failed: bool) -> None:
    waiting = ContainerFacts(is_running=True, restarts=9, exit_code=4, message="seed: another pod's server")
    pod = make_pod(role, seed=waiting, created_at=ago(minutes))
    assert found(check_seed(make_member(role, pod=pod), context())) == (Reason.VOLUME_IN_USE, is_failed)


def test_a_copy_is_given_up_after_three_runs_but_never_that_of_a_member_that_has_one() -> None:
    message = "could not write to file: No space left on device"
    assert not found(check_seed(seeding(restarts=2, is_running=True, message=message), context()))[1]
    assert found(check_seed(seeding(restarts=3, is_running=True, message=message), context())) == (
        Reason.SEED_FAILED,
        True,
    )
    kept = seeding(Role.STANDBY, restarts=9, is_running=True, message=message)
    assert not found(check_seed(kept, context()))[1]


def test_a_step_that_has_not_started_or_says_nothing_is_in_progress() -> None:
    assert found(check_seed(seeding(), context())) == (Reason.IN_PROGRESS, False)
    assert found(check_seed(seeding(is_running=True), context())) == (Reason.SEEDING, False)
    assert check_seed(make_member(NEW), context()) is None


@pytest.mark.parametrize(
    ("still", "has_primary", "role", "is_failed"),
    [(599, True, NEW, False), (601, True, NEW, True), (601, False, NEW, False), (601, True, Role.SERVING, False)],
)
def test_preparing_has_ten_minutes_of_a_primary_that_answers(
    still: float, has_primary: bool, role: Role, is_failed: bool
) -> None:
    member = seeding(role, still=still, is_running=True)
    assert found(check_seed(member, context(has_primary=has_primary))) == (Reason.SEEDING, is_failed)


@pytest.mark.parametrize(
    ("streamed", "total", "percent"), [(0, 0, None), (0, 200, 0), (50, 200, 25), (200, 200, 100), (300, 200, 100)]
)
def test_progress_is_a_share_of_what_is_known_to_come(streamed: int, total: int, percent: int | None) -> None:
    backup = BackupProgress("hr_a_b_0_a", "streaming database files", streamed, total)
    verdict = check_seed(replace(seeding(is_running=True), backup=backup), context())
    assert found(verdict) == (Reason.SEEDING, False)
    assert verdict is not None
    assert verdict.progress_percent == percent


@pytest.mark.parametrize(("stall_seconds", "is_failed"), [(60, True), (300, False)])
def test_the_spec_says_how_long_a_copy_may_stand_still(stall_seconds: int, is_failed: bool) -> None:
    backup = BackupProgress("hr_a_b_0_a", "streaming database files", 50, 100)
    member = replace(seeding(is_running=True, still=100), backup=backup)
    near = context(stall_timeout=timedelta(seconds=stall_seconds))
    assert found(check_seed(member, near)) == (Reason.SEED_STALLED if is_failed else Reason.SEEDING, is_failed)
