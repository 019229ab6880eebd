"""The stage of a member, from what was found of it: the first one whose end is not reached.

Nothing is remembered: a new process that reads the same facts gives the same verdict. Each check owns one stage and
answers with a verdict, or with None when the member is past it.
"""

from headroom.model.replica import Role, Stage
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.failover import has_not_followed
from headroom.policy.replicaset.members import Check, Member, StageContext, StageVerdict
from headroom.policy.replicaset.replay_lag import describe_lag, describe_pause, is_beyond
from headroom.policy.replicaset.seed import check_pod, check_reach, check_seed, check_volume
from headroom.policy.replicaset.stream_loss import find_held_vacuum, find_stream_loss
from headroom.policy.replicaset.termination_cause import describe_end
from headroom.reasons import Reason

DISOWNED = (Reason.FOREIGN_MEMBER, Reason.MEMBER_PROMOTED)
"""It never serves again, whatever else is true, and another takes its place."""
UNREAD_TIMELINE = (
    "without a receiver only pg_ls_waldir() shows its timeline, and the monitor login may not run it: GRANT pg_monitor "
    "to that login on the primary"
)


def decide_stage(member: Member, context: StageContext) -> StageVerdict:
    """Run the checks in order; the first that answers decides."""
    for check in CHECKS:
        verdict = check(member, context)
        if verdict is not None:
            return verdict
    return _role_verdict(member)


def _check_retired(member: Member, _: StageContext) -> StageVerdict | None:
    claim = member.claim
    if claim is not None and claim.retire is not None:
        return StageVerdict(Stage.RETIRED, claim.retire, f"it is being removed: {claim.retire}")
    return None


def _check_source(member: Member, context: StageContext) -> StageVerdict | None:
    """While it is stopped its slot keeps WAL and holds back vacuum like any other, also in a set that is paused."""
    if not member.is_source or member.claim is None:
        return None
    if context.has_primary and member.slot is not None and member.slot.is_lost:
        message = f"{member.slot.describe_loss()} (the member was stopped for a snapshot)"
        return StageVerdict(Stage.RETIRED, Reason.SLOT_LOST, message, is_failed=True)
    held = find_held_vacuum(member, timeouts.SOURCE_XMIN_LIMIT) if context.has_primary else None
    if held is not None:
        return StageVerdict(Stage.RETIRED, held.reason, held.message, is_failed=True)
    message = f"it is stopped for snapshot {member.claim.snapshot}, and not one of those that the spec asks for"
    return _check_kept_wal(member, context) or StageVerdict(Stage.RETIRED, Reason.SNAPSHOT_SOURCE, message)


def _check_disowned(member: Member, _: StageContext) -> StageVerdict | None:
    refusal = member.ineligible
    if refusal is None:
        return None
    if refusal.reason in DISOWNED:
        return StageVerdict(Stage.STREAMING, refusal.reason, refusal.message, is_failed=True)
    return None


def _check_timeline(member: Member, context: StageContext) -> StageVerdict | None:
    """Before its slot is looked at: a slot recreated on a new primary says nothing about what the member holds."""
    if member.divergence is not None:
        # Its slot may keep WAL while it waits for its turn, and the primary's disk does not wait.
        finding = member.divergence
        over_cap = _check_kept_wal(member, context)
        return over_cap or StageVerdict(Stage.STREAMING, finding.reason, finding.message, is_failed=True)
    if member.can_follow or not has_not_followed(member):
        return None
    message = f"{_describe_open(member, 'is not known')}; it is replaced"
    return _check_kept_wal(member, context) or StageVerdict(
        Stage.STREAMING, Reason.TIMELINE_DIVERGED, message, is_due_for_replacement=True
    )


def _check_behind(member: Member, _: StageContext) -> StageVerdict | None:
    """What it received may be past the fork, or of a timeline that is not known: it waits until that is clear."""
    is_open = member.behind_seconds is not None and not member.can_follow
    if not is_open or member.probe is None or member.unanswered or member.role is Role.SERVING:
        return None
    return StageVerdict(Stage.STREAMING, Reason.TIMELINE_DIVERGED, _describe_open(member, "is not known yet"))


def _describe_open(member: Member, what: str) -> str:
    is_unread = member.probe is not None and member.probe.timeline is None and member.probe.wal_timeline is None
    parts = [
        member.ineligible.message if member.ineligible is not None else "",
        f"whether it can follow the primary's timeline {what}",
        UNREAD_TIMELINE if is_unread else "",
    ]
    return "; ".join(part for part in parts if part)


def _check_deleted_claim(member: Member, _: StageContext) -> StageVerdict | None:
    """Kubernetes keeps a claim while a pod uses it: a running member is useful until another takes its place."""
    if member.claim is None or not member.claim.is_deleting:
        return None
    is_of_use = member.is_alive and member.role in (Role.SERVING, Role.STANDBY)
    message = f"claim {member.claim.name} is being deleted; the member is recreated"
    return StageVerdict(
        Stage.RETIRED, Reason.VOLUME_NOT_BOUND, message, is_failed=not is_of_use, is_due_for_replacement=is_of_use
    )


def _check_slot(member: Member, context: StageContext) -> StageVerdict | None:
    if not context.has_primary:
        return None
    if member.slot is None and member.pod is None:
        return StageVerdict(Stage.SLOT_RESERVED, Reason.SLOT_PENDING, f"slot {member.slot_name} is being created")
    if member.slot is not None and member.slot.is_lost:
        is_last_resort = member.role is Role.SERVING
        return StageVerdict(
            Stage.SLOT_RESERVED,
            Reason.SLOT_LOST,
            member.slot.describe_loss(),
            is_failed=not is_last_resort,
            is_due_for_replacement=is_last_resort,
        )
    return _check_kept_wal(member, context)


def is_over_cap(member: Member, context: StageContext) -> bool:
    """Whether its slot keeps more WAL than one may."""
    kept = _find_kept(member, context)
    return kept is not None and context.wal_cap is not None and kept > context.wal_cap


def _find_kept(member: Member, context: StageContext) -> int | None:
    """Bytes of WAL that its slot keeps on the primary; None if that is not known."""
    if member.slot is None or member.slot.restart_lsn is None or context.flush_lsn is None:
        return None
    return context.flush_lsn - member.slot.restart_lsn


def _check_kept_wal(member: Member, context: StageContext) -> StageVerdict | None:
    """The primary's disk has priority over any replica."""
    kept = _find_kept(member, context)
    if kept is None or context.wal_cap is None or not is_over_cap(member, context):
        return None
    message = (
        f"slot {member.slot_name} keeps {kept / 1024**2:.0f} MiB of WAL, {context.wal_cap / 1024**2:.0f} MiB are "
        "allowed: the member is given up; raise provisioning.maxSlotWAL"
    )
    return StageVerdict(Stage.SLOT_RESERVED, Reason.WAL_CAP_REACHED, message, is_failed=True)


def _check_lost(member: Member, context: StageContext) -> StageVerdict | None:
    """The kubelet restarts a silent server on a live node: another copy would only add load."""
    pod = member.pod
    if pod is None or not context.has_primary:
        return None
    has_outlived_deletion = pod.ends_at is not None and context.now - pod.ends_at > timeouts.NODE_LOST_AFTER
    is_silent = member.silent_seconds > timeouts.NODE_LOST_AFTER.total_seconds()
    if has_outlived_deletion or (member.is_node_lost and is_silent):
        message = f"node {pod.node} does not answer; another member takes over, and this one goes when the node is back"
        return StageVerdict(Stage.STREAMING, Reason.NODE_LOST, message, is_failed=True)
    return None


def _check_stream_loss(member: Member, context: StageContext) -> StageVerdict | None:
    if not context.has_primary:
        return None
    found = find_stream_loss(
        member,
        has_witness=bool(context.streaming - {member.name}),
        flush_lsn=context.flush_lsn,
        longest_wait=context.readiness.eject_replay_lag,
    )
    if found is None:
        return None
    return StageVerdict(Stage.STREAMING, found.reason, found.message, is_due_for_replacement=True)


def _check_server(member: Member, _: StageContext) -> StageVerdict | None:
    pod = member.pod
    assert pod is not None
    if pod.server.is_running or not (pod.server.restarts or pod.server.message):
        return None
    if member.server_restarts < timeouts.SERVER_RESTARTS_NOTICE:
        return StageVerdict(Stage.STREAMING, Reason.REPLAYING, f"the server ended: {describe_end(pod.server)}")
    is_failed = member.server_restarts >= timeouts.SERVER_RESTARTS and pod.role is not Role.SERVING
    message = f"the server ended {member.server_restarts} times: {describe_end(pod.server)}"
    return StageVerdict(Stage.STREAMING, Reason.POD_FAILING, message, is_failed=is_failed)


def _check_streaming(member: Member, context: StageContext) -> StageVerdict | None:
    pod = member.pod
    assert pod is not None
    if pod.role is Role.SERVING:
        return None
    is_unasked = member.probe is None and not member.unanswered
    if is_unasked and pod.is_ready and pod.role is not Role.PROVISIONING:
        # A new process that never saw the primary has no login to ask with, which is not the member's fault.
        return None
    if member.probe is None or member.unanswered:
        if not pod.is_ready:
            return StageVerdict(Stage.STREAMING, Reason.REPLAYING, "the server does not accept connections yet")
        if member.is_full:
            return StageVerdict(Stage.STREAMING, Reason.NO_CONNECTION_LEFT, _describe(member))
        cause = f": {member.silence}" if member.silence else ""
        message = f"the server does not answer our probes{cause}"
        # Its pod is a new one: a standby that does not answer gets one first.
        is_new = pod.role is Role.PROVISIONING and bool(context.streaming)
        is_failed = is_new and member.silent_seconds >= timeouts.SILENCE_LIMIT.total_seconds()
        return StageVerdict(Stage.STREAMING, Reason.MEMBER_UNREACHABLE, message, is_failed=is_failed)
    if member.refusal is not None:
        message = f"{describe_lag(member.refusal)}{describe_pause(member.probe)}"
        return StageVerdict(Stage.STREAMING, member.refusal.reason, message)
    return None


def _check_lag(member: Member, context: StageContext) -> StageVerdict | None:
    pod = member.pod
    assert pod is not None
    if pod.role is Role.PROVISIONING and member.within < timeouts.READINGS_TO_ENTER:
        is_over = member.measured is not None and not member.within
        reason = Reason.REPLAY_LAG_ABOVE_LIMIT if is_over else Reason.REPLAYING
        return StageVerdict(Stage.CAUGHT_UP, reason, _describe(member))
    if pod.role is Role.STANDBY and is_beyond(member.lag, context.readiness):
        return StageVerdict(Stage.CAUGHT_UP, Reason.REPLAY_LAG_ABOVE_LIMIT, _describe(member))
    if pod.role is Role.SERVING and is_beyond(member.lag, context.readiness):
        return StageVerdict(Stage.SERVING, Reason.REPLAY_LAG_ABOVE_LIMIT, _describe(member))
    return None


def _check_libraries(member: Member, _: StageContext) -> StageVerdict | None:
    """A new member must have been compared; one that was in use before stays so until a comparison speaks against it.

    One that serves stays in the Service until another takes its place: no replica at all would fail every read.
    """
    fault = member.library_fault
    if fault is None or member.role is Role.DRAINING:
        return None
    if member.has_other_libraries and member.role is Role.SERVING:
        message = f"{fault.message}; it serves until another can take its place"
        return StageVerdict(Stage.SERVING, fault.reason, message)
    if member.has_other_libraries or member.role is Role.PROVISIONING:
        return StageVerdict(Stage.CAUGHT_UP, fault.reason, fault.message)
    return None


def _check_published(member: Member, _: StageContext) -> StageVerdict | None:
    """A client that verifies replicas must be able to verify this one before the Service leads to it."""
    if member.is_published or member.role in (Role.SERVING, Role.DRAINING):
        return None
    message = "its certificate is not in the set's ConfigMap for clients yet"
    return StageVerdict(Stage.CAUGHT_UP, Reason.CERTIFICATE_NOT_PUBLISHED, message)


def _role_verdict(member: Member) -> StageVerdict:
    if member.role is Role.SERVING:
        return StageVerdict(Stage.SERVING, Reason.AS_EXPECTED, _describe(member))
    if member.role is Role.DRAINING:
        why = member.pod.why if member.pod else None
        return StageVerdict(Stage.DRAINING, why or Reason.DRAINING, "it takes no new connections")
    return StageVerdict(Stage.STANDBY, Reason.AS_EXPECTED, _describe(member))


def _describe(member: Member) -> str:
    if member.is_full:
        return f"it has no connection left to ask for its replay lag: {member.silence}"
    return f"{describe_lag(member.lag)}{describe_pause(member.probe)}"


CHECKS: tuple[Check, ...] = (
    _check_retired,
    _check_source,
    _check_disowned,
    _check_timeline,
    _check_deleted_claim,
    check_reach,
    _check_slot,
    _check_lost,
    _check_stream_loss,
    check_volume,
    check_pod,
    check_seed,
    _check_server,
    _check_behind,
    _check_streaming,
    _check_lag,
    _check_libraries,
    _check_published,
)
