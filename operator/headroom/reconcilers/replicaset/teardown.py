"""Towards nothing: pods, slots and claims go; and when that cannot be finished, what is left is said and let go."""

from dataclasses import replace
from datetime import timedelta

from headroom.api.v1alpha1.serving import VolumeRetention
from headroom.model.numbers import count_of
from headroom.model.replica import ABANDON_ANNOTATION, MemberFacts
from headroom.policy.replicaset.timeouts import ABANDON_AFTER
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.children import parse_time
from headroom.reconcilers.replicaset.facts import Problem
from headroom.reconcilers.replicaset.orphaned_slots import is_found_again, may_have_slots, say_what_is_left
from headroom.reconcilers.replicaset.retired import mark_claim, release_claim, remove_member
from headroom.reconcilers.replicaset.run import Run

COME_BACK = timedelta(milliseconds=500)
POD_PATIENCE = timedelta(minutes=1)
"""After its grace period a pod that is still there is on a node that does not answer: Kubernetes keeps it, not we."""
NEVER_COMES_BACK = frozenset({Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.GUARD_NOT_FOUND})


async def teardown_pass(run: Run) -> timedelta | None:
    """One pass; None when the finalizer may go."""
    gives_up = _why_give_up(run)
    for member in run.facts.members:
        await run.attempt(_remove(run, member, gives_up=gives_up is not None))
    if not run.facts.members and (run.facts.primary is not None or not may_have_slots(run.facts)):
        return None
    if gives_up is not None:
        await say_what_is_left(run, gives_up)
        return None
    slots = [member for member in run.facts.members if member.slot is not None]
    if run.facts.primary is not None and not slots and _has_waited_for_pods(run):
        return None
    return COME_BACK


def describe_teardown(run: Run) -> str:
    """What the deletion waits for, and how to end it without."""
    slots = [member.slot_name for member in run.facts.members if member.pod is None and member.slot is not None]
    obstacle = _what_keeps_slots(run)
    if obstacle is not None:
        message = (
            f"it is being deleted, and its slots cannot be dropped: {obstacle.message}; annotate it with "
            f"{ABANDON_ANNOTATION}=true to leave them, which happens by itself after "
            f"{ABANDON_AFTER.total_seconds() / 60:.0f} minutes"
        )
    elif slots:
        message = f"it is being deleted; the primary still uses slot {slots[0]}"
    else:
        message = (
            f"it is being deleted; {count_of(len(run.facts.members), 'replica is', 'replicas are')} on the way out"
        )
    return message


async def _remove(run: Run, member: MemberFacts, *, gives_up: bool) -> None:
    """The claim need not wait for a slot that cannot be dropped now: the slot is found again by its own name.

    A claim to retain loses its owner first: should the finalizer go early, nothing must collect it.
    """
    is_blind = run.facts.primary is None
    if is_blind and not gives_up and not is_found_again(run.facts, member.slot_name):
        await remove_member(run, member)
        return
    if member.claim is not None and run.facts.spec.retention.volumes is VolumeRetention.RETAIN:
        await release_claim(run, member.claim)
        member = replace(member, claim=None)
    if member.claim is not None and member.claim.retire is None and not member.claim.is_deleting:
        await mark_claim(run, member.claim, Reason.DELETING)
    await remove_member(run, member, must_drop_slot=not gives_up and not is_blind)


def _why_give_up(run: Run) -> str | None:
    facts = run.facts
    metadata = facts.body["metadata"]
    if metadata.get("annotations", {}).get(ABANDON_ANNOTATION) == "true":
        return f"{ABANDON_ANNOTATION} asks for it"
    obstacle = _what_keeps_slots(run)
    if obstacle is None:
        return None
    if facts.primary is None and facts.is_guard_missing:
        return "its DatabaseGuard is gone"
    if obstacle.reason in NEVER_COMES_BACK:
        return obstacle.message
    began = parse_time(metadata.get("deletionTimestamp"))
    if began is not None and facts.now - began >= ABANDON_AFTER:
        minutes = ABANDON_AFTER.total_seconds() / 60
        return f"for {minutes:.0f} minutes no slot could be dropped on the primary: {obstacle.message}"
    return None


def _what_keeps_slots(run: Run) -> Problem | None:
    """Why slots cannot be dropped now: nobody answers, or the login that drops them does not work."""
    primary = run.facts.primary
    if primary is None:
        return run.facts.outage or Problem(Reason.GUARD_NOT_READY, "the primary does not answer")
    if primary.slots is not None or all(member.slot is None for member in run.facts.members):
        return None
    return Problem(primary.view.reason, primary.view.message or "the DatabaseGuard has no replication login")


def _has_waited_for_pods(run: Run) -> bool:
    began = parse_time(run.facts.body["metadata"].get("deletionTimestamp"))
    grace = run.facts.spec.drain.timeout + timedelta(minutes=1)
    is_asked = all(member.pod is None or member.pod.is_deleting for member in run.facts.members)
    return is_asked and began is not None and run.facts.now - began > grace + POD_PATIENCE
