"""What to do next with a set of members: who serves, who leaves, who is created, who goes.

One pass plans only what its facts support; the next pass sees the result and continues. Applied to its own result, a
plan is empty. No plan takes the last member out of the Service, unless none is wanted or the member is no longer a
replica of the primary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from headroom.model.replica import Role, Stage
from headroom.policy.replicaset.activation import decide_places, is_late
from headroom.policy.replicaset.candidates import count_dead, count_swapped, rank_candidates, rank_fit
from headroom.policy.replicaset.ejection import Ejection, Ejections, Substitutes, decide_ejections
from headroom.policy.replicaset.failover import (
    choose_diverged,
    choose_reconnected,
    find_under_way,
    is_being_rebuilt,
    is_diverged,
)
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.policy.replicaset.retirement import (
    Retirement,
    choose_replacement,
    count_missing,
    find_staying,
    recreate,
    retire,
    retire_excess,
    retire_failed,
    retire_sources,
    retire_unneeded,
)
from headroom.policy.replicaset.scale_in import (
    SessionsEnd,
    choose_drained,
    choose_exchanged,
    end_sessions,
    settle_drained,
    stop_unreachable,
)
from headroom.policy.replicaset.targets import Targets
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of this pass; within each tuple the order is the order of preference.

    `activate` lists all who could serve, best first; the first `needed` that are still fit are taken. `late` names
    those that have had the label of the Service for too long without being confirmed, `put_back` those of them that
    make room for another. `reserve` is how many members to begin, `restore_slots` names members whose slot is missing.
    `retire` marks a member, `remove` brings one that is marked a step nearer to its end. `lag_panic` says why members
    beyond the bound are kept, the `panicked`. `stop` ends the pod of a drained one whose sessions cannot be ended in
    another way, and it is created again, as with `recreate`. `scale_in_wait` says why none is drained although fewer
    are wanted, `good` how many serve well.
    """

    needed: int = 0
    activate: tuple[str, ...] = ()
    put_back: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    eject: tuple[Ejection, ...] = ()
    accept: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()
    drain: tuple[Ejection, ...] = ()
    end_sessions: tuple[SessionsEnd, ...] = ()
    retire: tuple[Retirement, ...] = ()
    remove: tuple[str, ...] = ()
    recreate: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    restore_slots: tuple[str, ...] = ()
    seed: tuple[str, ...] = ()
    reserve: int = 0
    lag_panic: str = ""
    panicked: tuple[str, ...] = ()
    scale_in_wait: str = ""
    good: int = 0

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to do."""
        activate = self.activate if self.needed else ()
        steps = replace(self, activate=activate, needed=0, late=())
        return replace(steps, lag_panic="", panicked=(), scale_in_wait="", good=0) == Plan()


def decide_plan(members: Sequence[EvaluatedMember], targets: Targets, now: datetime) -> Plan:
    """Plan one pass over all members, including those that are going.

    One that is stopped for a snapshot is neither there nor missing: only `snapshots` says what becomes of it, unless
    its volume is of no use any more.
    """
    is_rebuilding = any(is_being_rebuilt(member.facts, now) for member in members)
    staying = find_staying(members)
    plan = _plan_moves(staying, targets, now, is_rebuilding=is_rebuilding)
    plan = replace(plan, retire=(*plan.retire, *retire_sources(members)))
    leaving = {entry.name for entry in plan.retire}
    staying = [member for member in staying if not (member.name in leaving or member.verdict.is_failed)]
    recalled = {*plan.pool, *(plan.activate if plan.needed else ())}
    return replace(
        plan,
        end_sessions=end_sessions(members, recalled, targets, now),
        remove=tuple(member.name for member in members if member.facts.is_going),
        restore_slots=tuple(m.name for m in staying if m.facts.slot is None) if targets.has_primary else (),
        seed=tuple(m.name for m in staying if _is_to_be_seeded(m, targets)) if targets.template is not None else (),
    )


def _plan_moves(staying: Sequence[EvaluatedMember], targets: Targets, now: datetime, *, is_rebuilding: bool) -> Plan:
    """The steps that move, add or retire members; the rest of a plan maintains those that stay."""
    candidates = rank_candidates(staying, targets)
    coming = [member for member in staying if member.facts.activating_seconds is not None]
    ejections = _decide_ejections(staying, candidates, coming, targets)
    failed = retire_failed(staying)
    base = Plan(
        eject=ejections.gone,
        accept=_accept(staying),
        retire=tuple(entry for entry in failed if entry.reason is Reason.WAL_CAP_REACHED),
        late=tuple(member.name for member in coming if is_late(member)),
        lag_panic=ejections.lag_panic,
        panicked=ejections.panicked,
        good=len(ejections.good),
    )
    if not targets.is_acting:
        return base
    ejected = {entry.name for entry in ejections.gone}
    coming = [member for member in coming if member.name not in ejected]
    base = _plan_places(base, staying, ejections.good, candidates, targets, coming=coming)
    diverged = choose_diverged(staying, targets) if not is_rebuilding else None
    return _plan_sizes(base, staying, failed, targets, now, diverged=diverged, is_calm=not (base.needed or coming))


def _decide_ejections(
    staying: Sequence[EvaluatedMember],
    candidates: Sequence[EvaluatedMember],
    coming: Sequence[EvaluatedMember],
    targets: Targets,
) -> Ejections:
    on_their_way = sum(not is_late(member) for member in coming)
    fit = rank_fit(staying, targets) if targets.no_activation else []
    obstacle = f"{fit[0].name} may not take over: {targets.no_activation}" if fit else ""
    return decide_ejections(
        staying,
        desired=targets.desired,
        bounds=targets.bounds,
        has_primary=targets.has_primary,
        substitutes=Substitutes(len(candidates) + on_their_way, obstacle),
    )


def _plan_places(
    base: Plan,
    staying: Sequence[EvaluatedMember],
    good: Sequence[EvaluatedMember],
    candidates: Sequence[EvaluatedMember],
    targets: Targets,
    *,
    coming: Sequence[EvaluatedMember],
) -> Plan:
    """Who joins the Service, and who leaves it because fewer are wanted."""
    places = decide_places(coming, good=len(good), candidates=len(candidates), desired=targets.desired)
    needed = places.needed if targets.has_primary else count_dead(staying, targets)
    behind = find_under_way(staying)
    drained = choose_drained(staying, good, targets) if behind is None and not base.eject else ()
    return replace(
        base,
        needed=needed or (count_swapped(good, candidates, targets) if not coming else 0),
        activate=tuple(member.name for member in candidates),
        put_back=places.put_back if targets.has_primary else (),
        drain=choose_exchanged(good, targets) or drained,
        scale_in_wait=_describe_wait(behind) if behind is not None and len(good) > targets.desired else "",
    )


def _describe_wait(behind: EvaluatedMember) -> str:
    what = "is to be rebuilt" if is_diverged(behind) else "does not follow the primary's new timeline yet"
    return f"held until the failover is over: {behind.name} {what}"


def _plan_sizes(
    base: Plan,
    staying: Sequence[EvaluatedMember],
    failed: Sequence[Retirement],
    targets: Targets,
    now: datetime,
    *,
    diverged: EvaluatedMember | None,
    is_calm: bool,
) -> Plan:
    """Who joins the pool, who goes for good, and how many are begun."""
    # This pass may put any candidate into the Service, so nothing else is planned for one of them.
    called = set(base.activate) if base.needed else set()
    pool, unneeded = settle_drained(staying, called, targets, now)
    replaced = diverged or choose_replacement(staying, targets, has_other=bool(base.good or base.activate))
    has_successor = replaced is not None and replaced.facts.role is Role.SERVING
    given_up = [*failed, *([retire(replaced)] if replaced is not None and not has_successor else [])]
    retired = [*given_up, *map(retire_unneeded, unneeded)]
    leaving = {entry.name for entry in retired}
    remaining = [member for member in staying if member.name not in leaving]
    is_under_way = find_under_way(staying) is not None
    excess = retire_excess(remaining, called, targets, good=base.good) if not is_under_way else []
    # A new member may be caught up and not wanted any more: it goes as it is.
    leaving |= {entry.name for entry in excess}
    accept = tuple(name for name in base.accept if name not in leaving)
    taken = {*pool, *accept, *leaving}
    free = [member for member in remaining if member.name not in taken]
    stop = stop_unreachable(free, targets, now)
    free = [member for member in free if member.name not in stop]
    has_failure = any(entry.is_failure for entry in given_up)
    return replace(
        base,
        accept=accept,
        pool=pool,
        retire=(*retired, *excess),
        stop=stop,
        # There may be several reasons to recreate one pod.
        recreate=tuple(dict.fromkeys((*recreate(free, targets, is_calm=is_calm), *choose_reconnected(free, targets)))),
        reserve=0 if has_failure else count_missing(remaining, targets, int(has_successor)),
    )


def _accept(staying: Sequence[EvaluatedMember]) -> tuple[str, ...]:
    """New members that are caught up become standbys."""
    return tuple(
        member.name
        for member in staying
        if member.facts.role is Role.PROVISIONING and member.verdict.stage is Stage.STANDBY
    )


def _is_to_be_seeded(member: EvaluatedMember, targets: Targets) -> bool:
    """It has no pod, and need not wait for a source. Its copy needs its slot first, and the slot is not known while the
    primary does not answer.
    """
    facts = member.facts
    if member.name in targets.copies.waits:
        return False
    return facts.pod is None and (facts.slot is not None or not targets.has_primary)
