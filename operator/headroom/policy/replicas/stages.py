"""Where a member is in its life, from what was found of it: the first stage whose end is not reached.

Nothing is remembered: a new process that reads the same facts gives the same verdict. Each check owns one stage and
answers with a verdict, or with None when the member is past it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.replica import MemberFacts, Role, Stage
from headroom.policy.replicas import timeouts
from headroom.policy.replicas.cut_off import find_cut_off
from headroom.policy.replicas.last_words import find_cause
from headroom.policy.replicas.readiness import describe_lag, describe_pause, is_beyond
from headroom.reasons import Reason

DISOWNED = (Reason.FOREIGN_MEMBER, Reason.MEMBER_PROMOTED)
"""It never serves again, whatever else is true, and is made anew."""
IMAGE_ERRORS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
STREAMING_PHASE = "streaming database files"
SEED_REFUSED = 3
"""The seed step's exit status for what no second try can mend."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the verdicts need besides the member; `has_primary` is false while the primary does not answer.

    `flush_lsn` is where the primary's WAL ends, `wal_cap` the bytes of it that a slot may keep; None: not known.
    `streaming` names the members whose streams stand.
    """

    now: datetime
    has_primary: bool
    readiness: Readiness
    stall_timeout: timedelta
    flush_lsn: int | None = None
    wal_cap: int | None = None
    streaming: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """The stage a member is in and why it is not past it; `is_failed` gives the attempt up: it is made anew.

    `is_cut_off`: it will not come back, but may be of use until another is there; such members are replaced one by one.
    """

    stage: Stage
    reason: Reason
    message: str
    is_failed: bool = False
    progress_percent: int | None = None
    is_cut_off: bool = False


Check = Callable[[MemberFacts, Surroundings], StageVerdict | None]


def decide_stage(member: MemberFacts, around: Surroundings) -> StageVerdict:
    """Run the checks in order; the first that answers decides."""
    for check in CHECKS:
        verdict = check(member, around)
        if verdict is not None:
            return verdict
    return _role_verdict(member)


def _check_retired(member: MemberFacts, _: Surroundings) -> StageVerdict | None:
    claim = member.claim
    if claim is not None and claim.retire is not None:
        return StageVerdict(Stage.RETIRED, claim.retire, f"it is being removed: {claim.retire}")
    return None


def _check_disowned(member: MemberFacts, _: Surroundings) -> StageVerdict | None:
    lag = member.lag
    if lag is None or lag.refusal is None:
        return None
    if lag.refusal in DISOWNED:
        return StageVerdict(Stage.STREAMING, lag.refusal, lag.message, is_failed=True)
    if lag.refusal is Reason.TIMELINE_DIVERGED and member.refused_seconds > timeouts.DIVERGED_LIMIT.total_seconds():
        return StageVerdict(Stage.STREAMING, lag.refusal, f"{lag.message}; it is made anew", is_failed=True)
    return None


def _check_deleted_claim(member: MemberFacts, _: Surroundings) -> StageVerdict | None:
    """Kubernetes keeps a claim for as long as a pod uses it: a member that runs is of use until another is there."""
    if member.claim is None or not member.claim.is_deleting:
        return None
    is_of_use = member.is_alive and member.role in (Role.SERVING, Role.STANDBY)
    message = f"claim {member.claim.name} is being deleted; the member is made anew"
    return StageVerdict(Stage.RETIRED, Reason.VOLUME_NOT_BOUND, message, is_failed=not is_of_use, is_cut_off=is_of_use)


def _check_slot(member: MemberFacts, around: Surroundings) -> StageVerdict | None:
    if not around.has_primary:
        return None
    if member.slot is None and member.pod is None:
        return StageVerdict(Stage.SLOT_RESERVED, Reason.SLOT_PENDING, f"slot {member.slot_name} is being made")
    if member.slot is not None and member.slot.wal_status == "lost":
        message = f"the primary gave up the WAL of slot {member.slot_name}; raise max_slot_wal_keep_size"
        is_last_resort = member.role is Role.SERVING
        return StageVerdict(
            Stage.SLOT_RESERVED, Reason.SLOT_LOST, message, is_failed=not is_last_resort, is_cut_off=is_last_resort
        )
    return _check_kept_wal(member, around)


def _check_kept_wal(member: MemberFacts, around: Surroundings) -> StageVerdict | None:
    """The primary's disk comes before any replica."""
    if member.slot is None or member.slot.restart_lsn is None or around.flush_lsn is None or around.wal_cap is None:
        return None
    kept = around.flush_lsn - member.slot.restart_lsn
    if kept <= around.wal_cap:
        return None
    message = (
        f"slot {member.slot_name} keeps {kept / 1024**2:.0f} MiB of WAL, {around.wal_cap / 1024**2:.0f} MiB are "
        "allowed: the member is given up; raise provisioning.maxSlotWAL"
    )
    return StageVerdict(Stage.SLOT_RESERVED, Reason.WAL_CAP_REACHED, message, is_failed=True)


def _check_lost(member: MemberFacts, around: Surroundings) -> StageVerdict | None:
    """A silent server on a live node is the kubelet's to restart: to copy anew under load would only add to it."""
    pod = member.pod
    if pod is None or not around.has_primary:
        return None
    has_outlived_deletion = pod.ends_at is not None and around.now - pod.ends_at > timeouts.NODE_LOST_AFTER
    is_silent = member.silent_seconds > timeouts.NODE_LOST_AFTER.total_seconds()
    if has_outlived_deletion or (member.is_node_lost and is_silent):
        message = f"node {pod.node} does not answer; another member is made, and this one goes when the node comes back"
        return StageVerdict(Stage.STREAMING, Reason.NODE_LOST, message, is_failed=True)
    return None


def _check_cut_off(member: MemberFacts, around: Surroundings) -> StageVerdict | None:
    if not around.has_primary:
        return None
    found = find_cut_off(
        member,
        has_witness=bool(around.streaming - {member.name}),
        flush_lsn=around.flush_lsn,
        longest_wait=around.readiness.eject_replay_lag,
    )
    return StageVerdict(Stage.STREAMING, found.reason, found.message, is_cut_off=True) if found else None


def _check_volume(member: MemberFacts, around: Surroundings) -> StageVerdict | None:
    claim, pod = member.claim, member.pod
    if claim is None:
        return _seeding(Reason.IN_PROGRESS, "its claim is being made")
    if claim.is_bound:
        return None
    age = around.now - claim.created_at
    if age <= timeouts.CLAIM_NOTICE:
        return _seeding(Reason.IN_PROGRESS, f"claim {claim.name} waits for a volume")
    why = f": {pod.unschedulable}" if pod and pod.unschedulable else ""
    message = (
        f"claim {claim.name} has had no volume for {age.total_seconds():.0f} s{why}; check storage.storageClassName, "
        "its provisioner and the namespace's quota"
    )
    return _seeding(Reason.VOLUME_NOT_BOUND, message, is_failed=age > timeouts.CLAIM_LIMIT)


def _check_pod(member: MemberFacts, around: Surroundings) -> StageVerdict | None:
    pod = member.pod
    if pod is None:
        return _seeding(Reason.IN_PROGRESS, "its pod is being made")
    if pod.is_deleting:
        return _seeding(Reason.IN_PROGRESS, f"pod {pod.name} is ending and is made again")
    if pod.is_ended:
        return _seeding(Reason.IN_PROGRESS, f"pod {pod.name} ended ({pod.phase}) and is made again")
    if pod.unschedulable:
        is_failed = around.now - pod.created_at > timeouts.SCHEDULE_LIMIT and pod.role is Role.PROVISIONING
        return _seeding(Reason.POD_UNSCHEDULABLE, f"no node takes it: {pod.unschedulable}", is_failed=is_failed)
    waiting = next((box.waiting for box in (pod.seed, pod.server) if box.waiting in IMAGE_ERRORS), None)
    if waiting is not None:
        is_failed = around.now - pod.created_at > timeouts.IMAGE_LIMIT and pod.role is Role.PROVISIONING
        return _seeding(Reason.IMAGE_NOT_PULLED, f"{waiting}: check spec.image", is_failed=is_failed)
    return None


def _check_seed(member: MemberFacts, around: Surroundings) -> StageVerdict | None:
    """The seed step runs again whenever a pod's sandbox is made again: on a volume that is filled it only looks."""
    pod = member.pod
    if pod is None or pod.seed.is_done:
        return None
    is_copying = pod.role is Role.PROVISIONING
    said = find_cause(pod.seed.message)
    if pod.seed.exit_code == SEED_REFUSED:
        reason = _refusal_reason(said)
        # Another image is all it takes: a copy that may be whole is not thrown away for a slip of the pen.
        is_mendable = reason is Reason.MAJOR_VERSION_MISMATCH and around.now - pod.created_at <= timeouts.IMAGE_LIMIT
        return _seeding(reason, said, is_failed=not is_mendable)
    if is_copying and pod.seed.restarts > timeouts.SEED_RUNS:
        return _seeding(Reason.SEED_FAILED, f"the copy failed again and again: {said}", is_failed=True)
    if member.backup is not None:
        return _copying(member, around)
    if not pod.seed.is_running:
        if pod.seed.restarts or pod.seed.message:
            return _seeding(Reason.SEED_FAILED, f"the copy failed and is tried again: {said}")
        return _seeding(Reason.IN_PROGRESS, f"pod {pod.name} is starting")
    is_still = member.still_seconds > timeouts.PREPARE_LIMIT.total_seconds()
    is_failed = is_copying and around.has_primary and is_still
    return _seeding(Reason.SEEDING, "the copy connects, or is being synced to disk", is_failed=is_failed)


def _copying(member: MemberFacts, around: Surroundings) -> StageVerdict:
    backup = member.backup
    assert backup is not None
    is_streaming = backup.phase == STREAMING_PHASE
    limit = around.stall_timeout if is_streaming else timeouts.PREPARE_LIMIT
    percent = min(backup.streamed_bytes * 100 // backup.total_bytes, 100) if backup.total_bytes else None
    if member.still_seconds > limit.total_seconds():
        message = f"the copy has stood still at {backup.phase} for {member.still_seconds:.0f} s"
        return _seeding(Reason.SEED_STALLED, message, is_failed=True, progress_percent=percent)
    done = backup.streamed_bytes / 1024**2
    return _seeding(Reason.SEEDING, f"{backup.phase}: {done:.0f} MiB", progress_percent=percent)


def _check_server(member: MemberFacts, _: Surroundings) -> StageVerdict | None:
    pod = member.pod
    assert pod is not None
    if pod.server.is_running or not (pod.server.restarts or pod.server.message):
        return None
    if member.server_restarts < timeouts.SERVER_RESTARTS_NOTICE:
        return StageVerdict(Stage.STREAMING, Reason.REPLAYING, f"the server ended: {find_cause(pod.server.message)}")
    is_failed = member.server_restarts >= timeouts.SERVER_RESTARTS and pod.role is not Role.SERVING
    message = f"the server ended {member.server_restarts} times: {find_cause(pod.server.message)}"
    return StageVerdict(Stage.STREAMING, Reason.POD_FAILING, message, is_failed=is_failed)


def _check_streaming(member: MemberFacts, _: Surroundings) -> StageVerdict | None:
    pod = member.pod
    assert pod is not None
    if pod.role is Role.SERVING:
        return None
    if member.probe is None or member.unanswered:
        if not pod.is_ready:
            return StageVerdict(Stage.STREAMING, Reason.REPLAYING, "the server does not accept connections yet")
        return StageVerdict(Stage.STREAMING, Reason.MEMBER_UNREACHABLE, "the server does not answer our probes")
    if member.lag is not None and member.lag.refusal is not None:
        return StageVerdict(Stage.STREAMING, member.lag.refusal, _describe(member))
    return None


def _check_lag(member: MemberFacts, around: Surroundings) -> StageVerdict | None:
    pod = member.pod
    assert pod is not None
    if pod.role is Role.PROVISIONING and member.within < timeouts.READINGS_TO_ENTER:
        is_over = member.lag is not None and member.lag.seconds is not None and not member.within
        reason = Reason.REPLAY_LAG_ABOVE_LIMIT if is_over else Reason.REPLAYING
        return StageVerdict(Stage.CAUGHT_UP, reason, _describe(member))
    if pod.role is Role.STANDBY and is_beyond(member.lag, around.readiness):
        return StageVerdict(Stage.CAUGHT_UP, Reason.REPLAY_LAG_ABOVE_LIMIT, _describe(member))
    return None


def _role_verdict(member: MemberFacts) -> StageVerdict:
    said = _describe(member)
    if member.role is Role.SERVING:
        return StageVerdict(Stage.SERVING, Reason.AS_EXPECTED, said)
    if member.role is Role.DRAINING:
        why = member.pod.why if member.pod else None
        return StageVerdict(Stage.DRAINING, why or Reason.DRAINING, "it takes no new connections")
    return StageVerdict(Stage.STANDBY, Reason.AS_EXPECTED, said)


def _describe(member: MemberFacts) -> str:
    return f"{describe_lag(member.lag)}{describe_pause(member.probe)}"


def _seeding(
    reason: Reason, message: str, *, is_failed: bool = False, progress_percent: int | None = None
) -> StageVerdict:
    return StageVerdict(Stage.SEEDED, reason, message, is_failed, progress_percent)


def _refusal_reason(said: str) -> Reason:
    return Reason.MAJOR_VERSION_MISMATCH if "major version" in said else Reason.SEED_FAILED


CHECKS: tuple[Check, ...] = (
    _check_retired,
    _check_disowned,
    _check_deleted_claim,
    _check_slot,
    _check_lost,
    _check_cut_off,
    _check_volume,
    _check_pod,
    _check_seed,
    _check_server,
    _check_streaming,
    _check_lag,
)
