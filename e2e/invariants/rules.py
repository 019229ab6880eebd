"""The invariants about members, slots and WAL, one function each: what looks wrong in an observation.

A rule keeps nothing: it yields the same suspicion again as long as it lasts, and the checker counts. What cannot be
known now accuses nobody.
"""

from collections import defaultdict
from collections.abc import Iterator

from e2e.invariants.facts import ClaimFacts, MemberFacts, Observation, PodFacts, ServerFacts, SetFacts, first
from e2e.invariants.suspicion import (
    ACTIVATION_GRACE,
    BLIND_GRACE,
    BUSY_WAL_GRACE,
    DISOWN_GRACE,
    IDLE_WAL_GRACE,
    MISCONFIGURED,
    MISSING_GRACE,
    NOT_OURS_TO_ROUTE,
    ORPHAN_GRACE,
    PROBE_SECONDS,
    PROPAGATION_SECONDS,
    SLOT_PREFIX,
    Invariant,
    Suspicion,
    name,
)
from e2e.invariants.tracks import Tracks

Unfit = tuple[str, str, float]
"""Which aspect, what is wrong, and how long it may be."""


def serving_is_fit(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """Who serves streams on the primary's timeline with its system id, within the bound or said to be beyond it."""
    for one in now.sets:
        server = now.server(one.guard)
        for pod in now.serving(one):
            member = now.member(pod)
            if server is None or member is None:
                continue
            for aspect, what, grace in _unfit(one, server, member):
                yield Suspicion(Invariant.SERVING_IS_FIT, name(pod.key), what, grace, aspect=aspect)


def _unfit(one: SetFacts, server: ServerFacts, member: MemberFacts) -> Iterator[Unfit]:
    """What must not be, and how long it may. To be said helps only against age: a diverged member never serves."""
    if not member.in_recovery:
        yield "promoted", "it serves and is not in recovery", DISOWN_GRACE
    elif member.system_id != server.system_id:
        yield (
            "foreign",
            f"it serves with system id {member.system_id}, the primary has {server.system_id}",
            DISOWN_GRACE,
        )
    elif _is_diverged(server, member):
        yield "diverged", f"it serves and received past the fork of timeline {member.timeline}", DISOWN_GRACE
    elif not one.is_staleness_said:
        yield from _unsaid(one, server, member)


def _unsaid(one: SetFacts, server: ServerFacts, member: MemberFacts) -> Iterator[Unfit]:
    slack = PROBE_SECONDS + PROPAGATION_SECONDS
    if member.timeline is not None and member.timeline != server.timeline:
        what = f"it serves on timeline {member.timeline}, the primary is on {server.timeline}; nothing says so"
        yield "timeline", what, one.eject_lag + slack
    elif not member.is_streaming:
        yield "stream", "it serves and does not stream; nothing says so", one.eject_lag + slack
    if member.staleness is not None and member.staleness > one.eject_lag:
        what = f"it serves data at least {member.staleness:.1f} s old, the bound is {one.eject_lag:g} s"
        yield "age", f"{what}; nothing says so", slack


def _is_diverged(server: ServerFacts, member: MemberFacts) -> bool:
    fork = server.forks.get(member.timeline) if member.timeline is not None else None
    return fork is not None and member.position > fork


def enough_serve(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """At least min(minServing, wanted, eligible) serve; a paused set may not activate anybody."""
    for one in now.sets:
        server = now.server(one.guard)
        if server is None or not one.is_active or one.is_deleting or one.reasons & NOT_OURS_TO_ROUTE:
            continue
        eligible = [pod for pod in now.pods_of(one) if _is_eligible(now, one, server, pod)]
        serving, needed = len(now.serving(one)), min(one.min_serving, one.wanted, len(eligible))
        if serving < needed:
            who = first(pod.key[1] for pod in eligible)
            what = f"{serving} serve, {needed} are needed; fit to serve: {who}"
            yield Suspicion(Invariant.ENOUGH_SERVE, name(one.key), what, ACTIVATION_GRACE)


def _is_eligible(now: Observation, one: SetFacts, server: ServerFacts, pod: PodFacts) -> bool:
    member = now.member(pod)
    if member is None or not pod.is_ready or pod.is_deleting or pod.role not in ("serving", "standby"):
        return False
    is_follower = member.in_recovery and member.is_streaming and member.timeline == server.timeline
    is_current = member.staleness is not None and member.staleness <= one.max_lag
    return is_follower and is_current and member.system_id == server.system_id


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
    """Every slot of ours belongs to a live member, and every live member has its slot."""
    live = {pod.slot for pod in now.pods if pod.slot and not pod.is_ended} | {claim.slot for claim in now.claims}
    for guard in now.guards:
        server = now.server(guard.key)
        if server is None or guard.reason in MISCONFIGURED:
            continue
        for slot in server.slots:
            if slot.name.startswith(SLOT_PREFIX) and slot.name not in live:
                what = f"no pod or claim has it; it is {'in use' if slot.is_active else 'not in use'}"
                yield Suspicion(Invariant.SLOTS_ARE_MEMBERS, f"slot {slot.name}", what, ORPHAN_GRACE)
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
                yield Suspicion(Invariant.SLOTS_ARE_MEMBERS, name(claim.key), what, MISSING_GRACE)


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
                yield Suspicion(Invariant.WAL_WITHIN_CAP, f"slot {slot.name}", what, grace)


def _half(limit: int | None) -> int | None:
    return None if limit is None else limit // 2


def never_synchronous(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """No commit waits for a member of ours."""
    for guard in now.guards:
        server = now.server(guard.key)
        for member in server.synchronous if server else ():
            if member.startswith(SLOT_PREFIX):
                what = f"synchronous_standby_names of {name(guard.key)} takes it in"
                yield Suspicion(Invariant.NEVER_SYNCHRONOUS, f"member {member}", what, needs_leader=False)


def checker_sees(now: Observation, _tracks: Tracks) -> Iterator[Suspicion]:
    """A primary that the operator calls well answers the checker too: a blind checker finds nothing."""
    for guard in now.guards:
        if guard.is_ready and not guard.is_gone and now.server(guard.key) is None:
            what = f"{guard.host}:{guard.port} does not answer the checker, and the guard is Ready"
            yield Suspicion(Invariant.CHECKER_SEES, name(guard.key), what, BLIND_GRACE)
