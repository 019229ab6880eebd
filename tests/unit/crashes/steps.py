"""What no single write of the operator may do, whoever died before it: each rule compares the world around one write.

They are stricter than the checker of the end-to-end tests, which sees twice a second and must allow for that. Each
yields what is wrong, as a text.
"""

from collections.abc import Callable, Iterator

from e2e.invariants.facts import Key, Observation, PodFacts, SetFacts, first
from headroom.model.snapshot import ANCHOR_MARK
from tests.unit.crashes.outside import Picture

Step = Callable[[Picture, Picture], Iterator[str]]


def activates_who_is_fit(before: Picture, after: Picture) -> Iterator[str]:
    """A member that gets the label of those that serve is a replica of this primary, and within the enter bound."""
    for one in after.seen.sets:
        for pod in after.seen.pods_of(one):
            old = before.find_pod(pod.key)
            is_new = pod.role == "serving" and (old is None or old.role != "serving")
            if is_new and (why := _find_unfit(after.seen, one, pod)):
                yield f"{pod.key[1]} is put into the Service: {why}"


def _find_unfit(now: Observation, one: SetFacts, pod: PodFacts) -> str:
    """Why a member must not be put into the Service; empty if it may be."""
    server, member = now.server(one.guard), now.member(pod)
    if member is None:
        return "it does not answer"
    if not member.in_recovery:
        return "it is no replica"
    if server is None:
        return ""
    if member.system_id != server.system_id or member.timeline != server.timeline or not member.is_streaming:
        return f"it does not stream from this primary (timeline {member.timeline})"
    if member.staleness is not None and member.staleness > one.max_lag:
        return f"it is {member.staleness:.1f} s behind"
    return ""


def takes_nobody_needed(before: Picture, after: Picture) -> Iterator[str]:
    """A write takes no fit member out of the Service if fewer than min(minServing, wanted) are left."""
    for one in after.seen.sets:
        if one.is_deleting or not one.is_active:
            continue
        old, new = _fit_serving(before.seen, one), _fit_serving(after.seen, one)
        if new < old and len(new) < min(one.min_serving, one.wanted):
            yield f"{first(key[1] for key in old - new)} is taken out of the Service, and {len(new)} are left"


def _fit_serving(now: Observation, one: SetFacts) -> set[Key]:
    return {
        pod.key
        for pod in now.pods_of(one)
        if pod.role == "serving" and pod.is_ready and not pod.is_deleting and not _find_unfit(now, one, pod)
    }


def slot_is_first(before: Picture, after: Picture) -> Iterator[str]:
    """A claim, and a pod of a set, come when their slot is there: else the copy outlives the WAL that it needs."""
    if not after.seen.servers:
        return
    old = {claim.key for claim in before.seen.claims} | {pod.key for pod in before.seen.pods if pod.set_name}
    new = [*after.seen.claims, *(pod for pod in after.seen.pods if pod.set_name and pod.slot)]
    for item in new:
        if item.key not in old and item.slot not in after.slots():
            yield f"{item.key[1]} is created without its slot {item.slot}"


def slot_of_live_member_stays(before: Picture, after: Picture) -> Iterator[str]:
    """No write drops the slot of a member that stays, or that still runs."""
    gone = before.slots() - after.slots()
    for claim in after.seen.claims:
        if claim.slot in gone and not claim.is_leaving:
            yield f"slot {claim.slot} is dropped, and {claim.key[1]} stays"
    for pod in after.seen.pods:
        if pod.slot in gone and not (pod.is_ended or pod.is_deleting):
            yield f"slot {pod.slot} is dropped, and pod {pod.key[1]} runs"


def claim_goes_last(before: Picture, after: Picture) -> Iterator[str]:
    """A claim names its member's slot: it goes once pod and slot are gone, if the primary answers."""
    for claim in before.seen.claims:
        if claim.key in after.volumes or not after.seen.servers:
            continue
        if claim.slot in after.slots():
            yield f"claim {claim.key[1]} is deleted before its slot"
        if after.find_pod(claim.key) is not None:
            yield f"claim {claim.key[1]} is deleted before its pod"


def no_more_than_wanted(before: Picture, after: Picture) -> Iterator[str]:
    """A member is begun only if there is room for it, also if its beginning is all that there is of another one."""
    begun = frozenset(slot for slot in after.slots() - before.slots() if not _is_anchor(slot))
    for one in after.seen.sets:
        mine = [claim for claim in after.seen.claims if claim.set_name == one.key[1] and claim.key[0] == one.key[0]]
        leaving = {claim.slot for claim in mine if claim.is_leaving}
        prefix = _prefix_of(begun)
        # An anchor belongs to a snapshot, and is no member.
        live = {slot for slot in after.slots() if slot.startswith(prefix) and not _is_anchor(slot)} - leaving
        if begun and len(live) > after.most_members[one.key]:
            yield f"{one.key[1]} has {len(live)} members, {first(begun)} among them; it may have {after.most_members}"


def _is_anchor(slot: str) -> bool:
    return slot.split("_")[3:4] == [ANCHOR_MARK]


def stops_nobody_asked_for(before: Picture, after: Picture) -> Iterator[str]:
    """Who is stopped for a snapshot leaves as many that serve and stand by as the spec asks for."""
    for one in after.seen.sets:
        stopped = [
            pod
            for pod in before.seen.pods_of(one)
            if pod.key in after.sources and not pod.is_deleting and not _runs(after.find_pod(pod.key))
        ]
        left = [pod for pod in after.seen.pods_of(one) if _runs(pod) and pod.role in ("serving", "standby")]
        if stopped and len(left) < after.most_members[one.key] - 1:
            yield f"{stopped[0].key[1]} is stopped for a snapshot, and {len(left)} are left"


def _runs(pod: PodFacts | None) -> bool:
    return pod is not None and pod.is_ready and not pod.is_deleting


def anchor_is_first(before: Picture, after: Picture) -> Iterator[str]:
    """A snapshot comes when its anchor is there, and its anchor stays for as long as it does."""
    for key, anchor in after.snapshots.items():
        if after.seen.servers and key not in before.snapshots and anchor not in after.slots():
            yield f"snapshot {key[1]} is created without its anchor {anchor}"


def _prefix_of(slots: frozenset[str]) -> str:
    """How the slots of one set begin."""
    return "_".join(min(slots, default="").split("_")[:3])


def workers_follow_the_queue(before: Picture, after: Picture) -> Iterator[str]:
    """While a queue is late no write takes workers away, and while it is not none adds any."""
    for key, count in after.workers.items():
        old = before.workers.get(key, count)
        if count != old and (count > old) is not after.is_late:
            yield f"{key[1]} goes from {old} to {count} workers, and its queue is {'late' if after.is_late else 'calm'}"


STEPS: tuple[Step, ...] = (
    activates_who_is_fit,
    takes_nobody_needed,
    slot_is_first,
    slot_of_live_member_stays,
    claim_goes_last,
    no_more_than_wanted,
    stops_nobody_asked_for,
    anchor_is_first,
    workers_follow_the_queue,
)
