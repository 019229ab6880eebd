"""Towards nothing: pods, slots and claims go; and when that cannot be finished, what is left is said and let go."""

from dataclasses import replace
from datetime import timedelta

from headroom.api.v1alpha1.serving import VolumeRetention
from headroom.model.replica import ABANDON_ANNOTATION, MemberFacts
from headroom.policy.replicas.timeouts import ABANDON_AFTER
from headroom.reasons import Reason
from headroom.reconcilers.replicaset import metrics
from headroom.reconcilers.replicaset.children import parse_time
from headroom.reconcilers.replicaset.retired import mark_claim, release_claim, remove_member
from headroom.reconcilers.replicaset.run import Run

COME_BACK = timedelta(milliseconds=500)
POD_PATIENCE = timedelta(minutes=1)
"""After its grace period a pod that is still there is on a node that does not answer: Kubernetes keeps it, not we."""
NEVER_COMES_BACK = frozenset({Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.GUARD_NOT_FOUND})


async def teardown_pass(run: Run) -> timedelta | None:
    """One pass; None when the finalizer may go."""
    gives_up = _why_give_up(run)
    must_drop_slot = gives_up is None and run.facts.primary is not None
    for member in run.facts.members:
        await run.attempt(_remove(run, member, must_drop_slot=must_drop_slot))
    if not run.facts.members and (run.facts.primary is not None or not _was_ever_made(run)):
        return None
    if gives_up is not None:
        _say_what_is_left(run, gives_up)
        return None
    slots = [member for member in run.facts.members if member.slot is not None]
    if run.facts.primary is not None and not slots and _has_waited_for_pods(run):
        return None
    return COME_BACK


def _was_ever_made(run: Run) -> bool:
    """A primary was seen once, so there may be slots on it."""
    return "systemIdentifier" in (run.facts.body.get("status") or {})


async def _remove(run: Run, member: MemberFacts, *, must_drop_slot: bool) -> None:
    """The claim need not wait for a slot that cannot be dropped now: the slot is found again by its own name.

    A claim to retain loses its owner first: should the finalizer go early, nothing must collect it.
    """
    if member.claim is not None and run.facts.spec.retention.volumes is VolumeRetention.RETAIN:
        await release_claim(run, member.claim)
        member = replace(member, claim=None)
    if member.claim is not None and member.claim.retire is None and not member.claim.is_deleting:
        await mark_claim(run, member.claim, Reason.DELETING)
    await remove_member(run, member, must_drop_slot=must_drop_slot)


def _why_give_up(run: Run) -> str | None:
    facts = run.facts
    metadata = facts.body["metadata"]
    if metadata.get("annotations", {}).get(ABANDON_ANNOTATION) == "true":
        return f"{ABANDON_ANNOTATION} asks for it"
    if facts.primary is not None:
        return None
    if facts.is_guard_missing:
        return "its DatabaseGuard is gone"
    if facts.outage is not None and facts.outage.reason in NEVER_COMES_BACK:
        return facts.outage.message
    began = parse_time(metadata.get("deletionTimestamp"))
    if began is not None and facts.now - began >= ABANDON_AFTER:
        return f"the primary has not answered for {ABANDON_AFTER.total_seconds() / 60:.0f} minutes"
    return None


def _say_what_is_left(run: Run, why: str) -> None:
    """While the primary cannot be asked, any member found may have left its slot."""
    is_unknown = run.facts.primary is None
    slots = [member.slot_name for member in run.facts.members if is_unknown or member.slot is not None]
    if slots:
        run.telemetry.record(metrics.SLOTS_LEFT, len(slots), **run.labels)
        message = f"slots left on the primary: {', '.join(slots)}; they are swept later, else drop them by hand"
        run.announce(Reason.SLOT_LEFT_BEHIND, message, "Warning")
    run.announce(Reason.ABANDONED, f"the finalizer was released early: {why}", "Warning")


def _has_waited_for_pods(run: Run) -> bool:
    began = parse_time(run.facts.body["metadata"].get("deletionTimestamp"))
    grace = run.facts.spec.drain.timeout + timedelta(minutes=1)
    is_asked = all(member.pod is None or member.pod.is_deleting for member in run.facts.members)
    return is_asked and began is not None and run.facts.now - began > grace + POD_PATIENCE
