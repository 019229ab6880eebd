"""Whether a member has its copy: claim, pod, then the step that fills the volume."""

import re
from datetime import timedelta

from headroom.model.copies import is_standby
from headroom.model.numbers import describe_bytes, describe_seconds
from headroom.model.replica import ClaimFacts, ContainerFacts, PodFacts, Role, Stage
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.copy_progress import STREAMING_PHASE, SYNC_PHASE, estimate_seconds
from headroom.policy.replicaset.members import Member, StageContext, StageVerdict
from headroom.policy.replicaset.snapshot_fit import find_unreached
from headroom.policy.replicaset.termination_cause import find_copy_cause
from headroom.reasons import Reason

IMAGE_ERRORS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
REGISTRY_SAID, BACK_OFF = " desc = ", "Back-off pulling image"
"""What the kubelet writes before the words of the registry, and how it begins while it pauses between two tries."""
MOST_OF_REGISTRY = 300
SHORTAGE = "Insufficient "
"""The scheduler's word for a resource that the pod asks for and no node has left."""
PRIMARY_MAJOR = re.compile(r"the primary is of major version (\d+)")
PHASE_LIMITS = {
    "waiting for checkpoint to finish": timeouts.CHECKPOINT_LIMIT,
    "estimating backup size": timeouts.ESTIMATE_LIMIT,
    "waiting for wal archiving to finish": timeouts.WAL_LIMIT,
    "transferring wal files": timeouts.WAL_LIMIT,
    SYNC_PHASE: timeouts.SYNC_LIMIT,
}
"""How long a phase may last without progress, other than the files themselves, for which the spec says it."""
LOGIN_FAILURES = ("password authentication failed", "no pg_hba.conf entry", "permission denied to start WAL sender")
IMAGE_FAULTS = frozenset({Reason.MAJOR_VERSION_MISMATCH, Reason.IMAGE_INCOMPLETE})
"""Reasons of a seed step that no volume is the cause of."""
SNAPSHOT_REFUSED = ("seed: the snapshot ", "seed: pg_controldata cannot read the snapshot")
"""How what restore.sh finds wrong begins."""
BEFORE_VOLUMES = ("", "ContainerCreating", "PodInitializing")
"""What the kubelet says of a container while it attaches and mounts the pod's volumes."""
SEED_REFUSED = 3
"""The seed step's exit status for an error that no second try can correct."""
SEED_VOLUME_IN_USE = 4
"""Its exit status when another pod's server kept the volume for as long as it waited."""


def check_volume(member: Member, context: StageContext) -> StageVerdict | None:
    """Past it once the claim has a volume, or while it only waits until a node takes its pod (`check_pod`)."""
    claim, pod = member.claim, member.pod
    if claim is None:
        wait = member.choice.wait if member.choice is not None else None
        if wait is not None:
            # Its slot fits no snapshot, and none that is older: another one gets a slot that does.
            return _seeding(wait.reason, wait.message, is_failed=True)
        return _seeding(Reason.IN_PROGRESS, "its claim is being created")
    # With late binding a volume is created only once a node was chosen: until then its absence says nothing.
    if claim.is_bound or (pod is not None and pod.unschedulable and not _is_about_volumes(pod.unschedulable)):
        return None
    age = context.now - claim.created_at
    if age <= timeouts.CLAIM_NOTICE:
        return _seeding(Reason.IN_PROGRESS, f"claim {claim.name} waits for a volume")
    if claim.restored_from:
        return _check_restored_volume(claim, pod, context)
    # The scheduler may only repeat that the claim is unbound, which the message says already.
    why = f": {pod.unschedulable}" if pod and pod.unschedulable and "unbound" not in pod.unschedulable else ""
    message = (
        f"claim {claim.name} has had no volume for {age.total_seconds():.0f} s{why}; check storage.storageClassName, "
        "its provisioner and the namespace's quota"
    )
    return _seeding(Reason.VOLUME_NOT_BOUND, message, is_failed=age > timeouts.PLACE_LIMIT)


def _check_restored_volume(claim: ClaimFacts, pod: PodFacts | None, context: StageContext) -> StageVerdict:
    """The driver says only in an event of the claim what it waits for, or what is wrong, and events are not read."""
    name, age = claim.restored_from, context.now - claim.created_at
    # With late binding the driver only begins once there is a node, which may have to be added first.
    begun_at = max(claim.created_at, pod.scheduled_at) if pod and pod.scheduled_at else claim.created_at
    if context.snapshots is not None and name not in context.snapshots:
        message = f"snapshot {name} was deleted before claim {claim.name} had its volume"
        return _seeding(Reason.SNAPSHOT_GONE, message, is_failed=True)
    message = (
        f"claim {claim.name} has waited {age.total_seconds():.0f} s for a volume from snapshot {name}; "
        f"`kubectl describe pvc {claim.name}` shows what the driver says"
    )
    if context.now - begun_at <= timeouts.RESTORE_LIMIT:
        return _seeding(Reason.SEEDING, message)
    return _seeding(Reason.RESTORE_STALLED, message, is_failed=True)


def _is_about_volumes(unschedulable: str) -> bool:
    """Whether the scheduler names volumes or their class as a cause."""
    text = unschedulable.lower()
    return any(word in text for word in ("volume", "storage", "unbound"))


def check_pod(member: Member, context: StageContext) -> StageVerdict | None:
    """Past it once a node runs the pod."""
    pod = member.pod
    if pod is None:
        return _seeding(Reason.IN_PROGRESS, "its pod is being created")
    if pod.is_deleting:
        return _seeding(Reason.IN_PROGRESS, f"pod {pod.name} is ending and is recreated")
    if pod.is_ended:
        return _seeding(Reason.IN_PROGRESS, f"pod {pod.name} ended ({pod.phase}) and is recreated")
    if pod.unschedulable:
        is_failed = context.now - pod.created_at > timeouts.PLACE_LIMIT and pod.role is Role.PROVISIONING
        return _seeding(Reason.POD_UNSCHEDULABLE, _describe_unschedulable(pod.unschedulable), is_failed=is_failed)
    box = next((box for box in (pod.seed, pod.server) if box.waiting in IMAGE_ERRORS), None)
    if box is not None:
        is_failed = context.now - pod.created_at > timeouts.PLACE_LIMIT and pod.role is Role.PROVISIONING
        return _seeding(Reason.IMAGE_NOT_PULLED, _describe_image(box), is_failed=is_failed)
    return None


def _describe_unschedulable(why: str) -> str:
    """What the scheduler says, and what to do about it."""
    ease = "lower spec.resources.requests" if SHORTAGE in why else "ease spec.template (affinity, tolerations)"
    return f"no node takes it: {why}; {ease} or add a node"


def _describe_image(box: ContainerFacts) -> str:
    """The image and what the registry said of it: the same text in each try and in each pause between two tries."""
    why = " ".join(box.waiting_why.rpartition(REGISTRY_SAID)[2].split())
    # A pause is about the last error, which follows the image.
    why = why.rpartition(f'"{box.image}": ')[2] if why.startswith(BACK_OFF) else why
    why = box.waiting if not why or why.startswith(BACK_OFF) else why
    why = why if len(why) <= MOST_OF_REGISTRY else f"{why[:MOST_OF_REGISTRY]}…"
    image = f"the image {box.image}" if box.image else "the image"
    return f"{image} cannot be pulled: {why}; check spec.image and the pull secret"


def check_seed(member: Member, context: StageContext) -> StageVerdict | None:
    """The seed step runs again each time a pod's sandbox is recreated; on a filled volume it only checks."""
    pod = member.pod
    if pod is None or pod.seed.is_done:
        return None
    is_copying = pod.role is Role.PROVISIONING
    cause = find_copy_cause(pod.seed.message)
    if pod.seed.exit_code == SEED_REFUSED:
        reason = _find_reason(cause)
        # Only the image is wrong: a copy that may be complete is not discarded for a typing error, one that is
        # complete never, since each new one would need the same image.
        is_late = context.now - pod.created_at > timeouts.PLACE_LIMIT
        is_failed = (is_copying and is_late) if reason in IMAGE_FAULTS else True
        return _seeding(reason, _add_remedy(cause), is_failed=is_failed)
    if pod.seed.exit_code == SEED_VOLUME_IN_USE and member.backup is None:
        # The earlier pod's server may rightly run until the end of a drain.
        is_late = context.now - pod.created_at > timeouts.PLACE_LIMIT + context.drain_timeout
        message = "a server of an earlier pod still uses the volume; it ends with that pod's grace period"
        return _seeding(Reason.VOLUME_IN_USE, message, is_failed=is_copying and is_late)
    if is_copying and pod.seed.restarts > timeouts.SEED_RUNS:
        return _seeding(_find_reason(cause), f"the copy failed repeatedly: {_add_remedy(cause)}", is_failed=True)
    if member.backup is not None:
        return _copying(member, context)
    return _unseen(member, pod, cause, context)


def _unseen(member: Member, pod: PodFacts, cause: str, context: StageContext) -> StageVerdict:
    """No server shows its copy: it has not begun, its files have come, or there is none since it is restored."""
    is_copying = pod.role is Role.PROVISIONING and context.has_primary
    is_syncing = member.copy is not None and member.copy.progress[0] == SYNC_PHASE
    is_still = member.still_seconds > _find_limit(SYNC_PHASE if is_syncing else "").total_seconds()
    is_failed = is_copying and is_still and pod.seed.is_running
    if pod.seed.message or (pod.seed.restarts and not pod.seed.is_running):
        message = f"the copy failed and is tried again: {_add_remedy(cause)}"
        return _seeding(_find_reason(cause), message, is_failed=is_failed)
    if not pod.seed.is_running:
        return _check_mount(member, pod, context)
    if member.claim is not None and member.claim.restored_from:
        message = f"its volume from snapshot {member.claim.restored_from} is being checked and made its own"
        return _seeding(Reason.SEEDING, message, is_failed=is_failed)
    if is_standby(pod.copy_source) and not member.is_copy_observed:
        return _seeding(Reason.SEEDING, f"the copy runs, and {pod.copy_source} was not asked how far it is")
    what = "checked and synced to disk" if is_syncing else "begun, checked, or synced to disk"
    return _seeding(Reason.SEEDING, f"the copy is being {what}", is_failed=is_failed)


def _check_mount(member: Member, pod: PodFacts, context: StageContext) -> StageVerdict:
    """A driver that cannot attach or mount what it has restored says so in an event of the pod only."""
    restored_from = member.claim.restored_from if member.claim is not None else ""
    is_new = pod.role is Role.PROVISIONING and pod.seed.exit_code is None and pod.seed.waiting in BEFORE_VOLUMES
    begun_at = pod.scheduled_at or pod.created_at
    if not (restored_from and is_new and context.now - begun_at > timeouts.RESTORE_LIMIT):
        return _seeding(Reason.IN_PROGRESS, f"pod {pod.name} is starting")
    message = (
        f"pod {pod.name} has not started on its volume from snapshot {restored_from}; "
        f"`kubectl describe pod {pod.name}` shows what the driver says"
    )
    return _seeding(Reason.RESTORE_STALLED, message, is_failed=True)


def check_reach(member: Member, context: StageContext) -> StageVerdict | None:
    """Whether a restored member can still follow the primary, which may have changed since its snapshot was chosen.

    Once its server has run, its own position is known, and the slot has moved on with it.
    """
    stamps, pod = member.restored, member.pod
    is_new = pod is None or (pod.role is Role.PROVISIONING and not pod.seed.is_done)
    if stamps is None or context.position is None or not (is_new and member.is_unread):
        return None
    if stamps.timeline < context.position.timeline and context.history is None:
        return None  # where it forked off is being asked
    if member.slot is not None and member.slot.is_lost:
        return None  # which names what took it
    why = find_unreached(stamps, context.position, context.history)
    start = member.slot.restart_lsn if member.slot is not None else None
    if not why and (start is None or start > stamps.from_lsn):
        why = f"needs WAL from {stamps.from_lsn}, and no slot on the primary keeps it any more"
    if not why:
        return None
    what = member.claim.restored_from if member.claim is not None else ""
    message = f"the snapshot {what} {why}; the primary has changed since, and a later snapshot or a copy is taken"
    return _seeding(Reason.SNAPSHOT_OUT_OF_REACH, message, is_failed=True)


def _copying(member: Member, context: StageContext) -> StageVerdict:
    backup = member.backup
    assert backup is not None
    is_streaming = backup.phase == STREAMING_PHASE
    limit = context.stall_timeout if is_streaming else _find_limit(backup.phase)
    percent = min(backup.streamed_bytes * 100 // backup.total_bytes, 100) if backup.total_bytes else None
    if member.still_seconds > limit.total_seconds():
        message = f"the copy has made no progress at {backup.phase} for {member.still_seconds:.0f} s"
        return _seeding(Reason.SEED_STALLED, message, is_failed=True, progress_percent=percent)
    return _seeding(Reason.SEEDING, f"{_describe_progress(member)}{_describe_source(member)}", progress_percent=percent)


def _find_limit(phase: str) -> timedelta:
    return PHASE_LIMITS.get(phase, timeouts.PREPARE_LIMIT)


def _describe_progress(member: Member) -> str:
    """`streaming database files: 1.2 of 4.0 GiB (30 %), about 40 s left`, as far as it is known."""
    backup = member.backup
    assert backup is not None
    if not backup.streamed_bytes and backup.phase != STREAMING_PHASE:
        return backup.phase
    done = describe_bytes(backup.streamed_bytes)
    if not backup.total_bytes:
        return f"{backup.phase}: {done}"
    total = describe_bytes(backup.total_bytes)
    done = done.removesuffix(total[-4:]) if done[-4:] == total[-4:] else done
    percent = min(backup.streamed_bytes * 100 // backup.total_bytes, 100)
    left = estimate_seconds(member.copy, backup)
    eta = f", about {describe_seconds(left)} left" if left is not None else ""
    return f"{backup.phase}: {done} of {total} ({percent} %){eta}"


def _describe_source(member: Member) -> str:
    pod = member.pod
    if pod is None or not pod.copy_source:
        return ""
    source = pod.copy_source if is_standby(pod.copy_source) else f"the {pod.copy_source}"
    return f"; from {source}, since {pod.copy_why}"


def _seeding(
    reason: Reason, message: str, *, is_failed: bool = False, progress_percent: int | None = None
) -> StageVerdict:
    return StageVerdict(Stage.SEEDED, reason, message, is_failed, progress_percent)


def _find_reason(cause: str) -> Reason:
    if cause.startswith(SNAPSHOT_REFUSED):
        return Reason.RESTORE_REFUSED
    if "major version" in cause:
        return Reason.MAJOR_VERSION_MISMATCH
    if "the image has no" in cause:
        return Reason.IMAGE_INCOMPLETE
    return Reason.REPLICATION_LOGIN_FAILED if _is_login_failure(cause) else Reason.SEED_FAILED


def _is_login_failure(cause: str) -> bool:
    return any(words in cause for words in LOGIN_FAILURES)


def _add_remedy(cause: str) -> str:
    """Why the copy ended, and what to do where that is known."""
    reason = _find_reason(cause)
    if reason is Reason.REPLICATION_LOGIN_FAILED:
        return f"{cause}; check the Secret in connection.replicationSecretRef of the DatabaseGuard, and pg_hba.conf"
    if reason is Reason.IMAGE_INCOMPLETE:
        return f"{cause}; set spec.image to one that has it"
    major = PRIMARY_MAJOR.search(cause)
    return f"{cause}; set spec.image to PostgreSQL {major[1]}" if major else cause
