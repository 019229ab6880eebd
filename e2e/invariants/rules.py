"""The invariants about counts, slots and WAL, one function each: what looks wrong in an observation.

A rule keeps nothing: it yields the same suspicion again as long as it lasts, and the checker counts. What cannot be
known now accuses nobody.
"""

from collections import defaultdict
from collections.abc import Iterator

from e2e.invariants.excuses import may_route
from e2e.invariants.facts import ClaimFacts, Observation, SetFacts, first
from e2e.invariants.serving import is_eligible
from e2e.invariants.suspicion import (
    ACTIVATION_GRACE,
    ANCHOR_MARK,
    BLIND_GRACE,
    BUSY_WAL_GRACE,
    IDLE_WAL_GRACE,
    MISCONFIGURED,
    MISSING_GRACE,
    ORPHAN_GRACE,
    SLOT_NAME,
    UNSEEN_GRACE,
    Invariant,
    Suspicion,
    name,
)
from e2e.invariants.tracks import Tracks


def enough_serve(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """At least min(minServing, wanted, eligible) serve; a paused set may not activate anybody."""
    for one in now.sets:
        server = now.server(one.guard)
        if server is None or not may_route(one):
            continue
        eligible = [pod for pod in now.pods_of(one) if is_eligible(now, one, server, pod)]
        serving, needed = len(now.serving(one)), min(one.min_serving, one.wanted, len(eligible))
        if serving < needed:
            who = first(pod.key[1] for pod in eligible)
            what = f"{serving} serve, {needed} are needed; fit to serve: {who}"
            yield Suspicion(Invariant.ENOUGH_SERVE, name(one.key), what, ACTIVATION_GRACE, guard=one.guard)


def one_pod_each(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """No two live pods share a claim or a slot, no two claims a slot."""
    holders: dict[str, list[str]] = defaultdict(list)
    ours = {claim.key for claim in now.claims}
    for pod in now.pods:
        if not pod.is_ended:
            for claim in pod.claims:
                if (pod.key[0], claim) in ours:
                    holders[f"claim {pod.key[0]}/{claim}"].append(pod.key[1])
            if pod.slot:
                holders[f"slot {pod.key[0]}/{pod.slot}"].append(pod.key[1])
    for holder in now.claims:
        holders[f"slot of claims {holder.key[0]}/{holder.slot}"].append(holder.key[1])
    for what, who in holders.items():
        if len(who) > 1:
            yield Suspicion(Invariant.ONE_POD_EACH, what, f"held by {first(who)}", needs_leader=False)


def slots_are_members(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """Every slot of ours but anchors belongs to a live member, and every live member has its slot."""
    live = {pod.slot for pod in now.pods if pod.slot and not pod.is_ended} | {claim.slot for claim in now.claims}
    for guard in now.guards:
        server = now.server(guard.key)
        if server is None or guard.reason in MISCONFIGURED:
            continue
        for slot in server.slots:
            match = SLOT_NAME.match(slot.name)
            if match is not None and match[3] != ANCHOR_MARK and slot.name not in live:
                what = f"no pod or claim has it; it is {'in use' if slot.is_active else 'not in use'}"
                yield Suspicion(Invariant.SLOTS_ARE_MEMBERS, f"slot {slot.name}", what, ORPHAN_GRACE, guard=guard.key)
    yield from _missing_slots(now)


def _missing_slots(now: Observation) -> Iterator[Suspicion]:
    for one in now.sets:
        server, guard = now.server(one.guard), now.guard(one.guard)
        if server is None or one.is_deleting or (guard is not None and guard.reason in MISCONFIGURED):
            continue
        there = {slot.name for slot in server.slots}
        for claim in _claims_of(now, one):
            if not claim.is_leaving and claim.slot not in there:
                what = f"its slot {claim.slot} is not on the primary"
                yield Suspicion(Invariant.SLOTS_ARE_MEMBERS, name(claim.key), what, MISSING_GRACE, guard=one.guard)


def _claims_of(now: Observation, one: SetFacts) -> list[ClaimFacts]:
    return [claim for claim in now.claims if claim.set_name == one.key[1] and claim.key[0] == one.key[0]]


def wal_within_cap(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """WAL kept by the slots of a set stays within `maxSlotWAL`, else within half of the primary's own limit."""
    for one in now.sets:
        server = now.server(one.guard)
        if server is None:
            continue
        cap = one.wal_cap if one.wal_cap is not None else _half(server.slot_wal_limit)
        mine = {pod.slot for pod in now.pods_of(one)} | {claim.slot for claim in _claims_of(now, one)}
        for slot in server.slots:
            if cap is not None and slot.name in mine and (slot.kept_bytes or 0) > cap:
                what = f"it keeps {slot.kept_bytes:,} bytes, the cap is {cap:,}"
                grace = BUSY_WAL_GRACE if slot.is_active else IDLE_WAL_GRACE
                yield Suspicion(Invariant.WAL_WITHIN_CAP, f"slot {slot.name}", what, grace, guard=one.guard)


def _half(limit: int | None) -> int | None:
    return None if limit is None else limit // 2


def never_synchronous(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """No commit waits for a member of ours."""
    for guard in now.guards:
        server = now.server(guard.key)
        for member in server.synchronous if server else ():
            if SLOT_NAME.match(member.strip().lower()):
                what = f"synchronous_standby_names of {name(guard.key)} takes it in"
                yield Suspicion(Invariant.NEVER_SYNCHRONOUS, f"member {member}", what, needs_leader=False)


def checker_sees(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """A primary that the operator calls well, and who serves, answer the checker too: a blind checker finds nothing."""
    for guard in now.guards:
        if guard.is_ready and not guard.is_gone and now.server(guard.key) is None:
            what = f"{guard.host}:{guard.port} does not answer the checker, and the guard is Ready"
            yield Suspicion(Invariant.CHECKER_SEES, name(guard.key), what, BLIND_GRACE)
    for one in now.sets:
        for pod in now.serving(one) if now.server(one.guard) is not None else ():
            if now.member(pod) is None:
                is_measured = pod.key[1] in one.measured
                whose = "the operator measures it" if is_measured else "nobody measures it"
                what = f"it serves at {pod.ip} and does not answer the checker; {whose}"
                grace = BLIND_GRACE if is_measured else UNSEEN_GRACE
                yield Suspicion(Invariant.CHECKER_SEES, name(pod.key), what, grace, aspect=whose)
