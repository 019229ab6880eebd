"""How the deletion of a set ends: when nothing is left, or when what is left is reported and abandoned."""

from dataclasses import dataclass
from datetime import timedelta

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.model.numbers import count_of
from headroom.model.replica import ABANDON_AFTER, ABANDON_ANNOTATION
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.facts import Deletion, SetFacts
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.synchronous import find_synchronous
from headroom.reasons import Reason

_ABANDON_MINUTES = f"{ABANDON_AFTER.total_seconds() / 60:.0f}"
NEVER_COMES_BACK = frozenset({Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.GUARD_NOT_FOUND})


@dataclass(frozen=True, slots=True)
class TeardownDecision:
    """What to do about a set that is being deleted, after its members came a step closer to their end.

    `is_over`: the finalizer may go. `gives_up` says why what is left is reported and abandoned; empty if it is not.
    `message` is what the deletion waits for, and how to end it. `hold` says why no member goes yet. `is_settling`: the
    guards of a new process have hardly had the time to connect, so that no claim goes before its slot yet.
    """

    is_over: bool
    gives_up: str
    message: str
    hold: Finding | None = None
    is_settling: bool = False


def decide_teardown(spec: ReplicaSetSpec, facts: SetFacts, memory: SetMemory, now: Moment) -> TeardownDecision:
    """`memory` has observed these facts."""
    hold = _find_hold(facts, now)
    if hold is not None:
        return TeardownDecision(is_over=False, gives_up="", message=hold.message, hold=hold)
    gives_up = _find_reason_to_give_up(facts, memory, now)
    is_over = _is_nothing_left(facts, memory) or (not gives_up and _is_left_to_kubernetes(spec, facts, now))
    is_settling = facts.primary is None and not gives_up and memory.is_young(now.monotonic)
    return TeardownDecision(is_over, gives_up, _describe(facts), is_settling=is_settling)


def may_have_slots(memory: SetMemory) -> bool:
    """Status has the primary's identity before the first slot is created, so that this is never wrongly false."""
    return memory.system_identifier is not None or bool(memory.slot_names)


def _is_nothing_left(facts: SetFacts, memory: SetMemory) -> bool:
    has_snapshots = any(not each.is_deleting for each in facts.snapshots or ())
    has_children = bool(facts.members or facts.anchors) or has_snapshots
    return not has_children and (facts.primary is not None or not may_have_slots(memory))


def _find_hold(facts: SetFacts, now: Moment) -> Finding | None:
    """Commits may wait for members that stream, and would hang without them; a person has some time to end that."""
    deletion, primary = facts.deletion, facts.primary
    if primary is None or primary.view.server is None or deletion is None or deletion.is_abandoned:
        return None
    is_streaming = any(member.slot is not None and member.slot.is_active for member in facts.members)
    found = find_synchronous(primary.view.server)
    if found is None or not is_streaming or now.wall - deletion.requested_at >= ABANDON_AFTER:
        return None
    message = (
        f"it is being deleted, and its replicas stay for now, for {_ABANDON_MINUTES} minutes at most or until it is "
        f"annotated with {ABANDON_ANNOTATION}=true: {found.message}"
    )
    return Finding(found.reason, message)


def _find_reason_to_give_up(facts: SetFacts, memory: SetMemory, now: Moment) -> str:
    """Why what is left is not waited for. A slot that can be dropped is, also if the set is abandoned: it has only to
    be dropped sooner, and else would keep WAL on a primary that is well.
    """
    obstacle = _find_obstacle(facts)
    if facts.deletion is not None and facts.deletion.is_abandoned:
        return _find_end_of_abandoned(facts.deletion, obstacle, memory, now)
    if obstacle is None:
        return ""
    if facts.primary is None and not facts.has_guard:
        return "its DatabaseGuard is gone"
    if obstacle.reason in NEVER_COMES_BACK:
        return obstacle.message
    if facts.deletion is None:
        return ""
    elapsed = now.wall - facts.deletion.requested_at
    if facts.deletion.is_namespace_ending and elapsed >= timeouts.NAMESPACE_PATIENCE:
        return f"its namespace is being deleted: {obstacle.message}"
    if elapsed >= ABANDON_AFTER:
        return f"for {_ABANDON_MINUTES} minutes no slot could be dropped on the primary: {obstacle.message}"
    return ""


def _find_end_of_abandoned(deletion: Deletion, obstacle: Finding | None, memory: SetMemory, now: Moment) -> str:
    elapsed = now.wall - deletion.requested_at
    if obstacle is None:
        # Its servers may run queries for as long as `drain.timeout`, which is more than one waits for who asked not to.
        is_over = elapsed >= ABANDON_AFTER
        return f"{ABANDON_ANNOTATION} asks for it, and slots are still in use" if is_over else ""
    is_first_sight = memory.is_young(now.monotonic) and elapsed < ABANDON_AFTER
    if is_first_sight and obstacle.reason is Reason.GUARD_NOT_READY:
        # The guards of a new process have hardly had the time to connect.
        return ""
    return f"{ABANDON_ANNOTATION} asks for it"


def _find_obstacle(facts: SetFacts) -> Finding | None:
    """Why slots cannot be dropped now: nobody answers, or the login that drops them does not work."""
    primary = facts.primary
    if primary is None:
        return facts.outage or Finding(Reason.GUARD_NOT_READY, "the primary does not answer")
    if primary.has_slot_link or not _has_slots(facts):
        return None
    message = primary.view.finding.message or "the DatabaseGuard has no replication login"
    return Finding(primary.view.finding.reason, message)


def _has_slots(facts: SetFacts) -> bool:
    return bool(facts.anchors) or any(member.slot is not None for member in facts.members)


def _describe(facts: SetFacts) -> str:
    obstacle = _find_obstacle(facts)
    if obstacle is not None:
        return (
            f"it is being deleted, and its slots cannot be dropped: {obstacle.message}; annotate it with "
            f"{ABANDON_ANNOTATION}=true to leave them, which happens by itself after {_ABANDON_MINUTES} minutes"
        )
    slots = [member.slot_name for member in facts.members if member.pod is None and member.slot is not None]
    if slots:
        message = f"it is being deleted; the primary still uses slot {slots[0]}, whose pod is gone"
        return f"{message}; annotate it with {ABANDON_ANNOTATION}=true to end that"
    return f"it is being deleted; {count_of(len(facts.members), 'replica is', 'replicas are')} on the way out"


def _is_left_to_kubernetes(spec: ReplicaSetSpec, facts: SetFacts, now: Moment) -> bool:
    """No slot is left, and the remaining pods outlived their grace period, or nobody asks to wait for it."""
    if facts.deletion is None or facts.primary is None or _has_slots(facts):
        return False
    grace = spec.drain.timeout + timedelta(minutes=1)
    is_asked = all(member.pod is None or member.pod.is_deleting for member in facts.members)
    if facts.deletion.is_abandoned:
        return is_asked
    return is_asked and now.wall - facts.deletion.requested_at > grace + timeouts.POD_PATIENCE
