"""Which serving members must leave the read Service, and when that is too dangerous.

A disowned one never serves, whatever it costs. All others leave only if a standby has taken the place, or if those that
serve well can carry the load. First goes one that is unreachable, has no stream, is due for replacement or has other
libraries; then those that lag, the worst first. None of them is taken out as the last one that serves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from headroom.api.v1alpha1.serving import OnLagPanic, Readiness
from headroom.model.conditions import Finding
from headroom.model.numbers import count_of
from headroom.model.replica import Role
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.members import LIBRARY_REASONS, EvaluatedMember, Member, describe_stale
from headroom.policy.replicaset.replay_lag import ReplayLag
from headroom.reasons import Reason

CARRIES = 0.90
"""The rest may take over if they stay below this share of their connections."""
NAMED = 5
"""Members that a message names one by one."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """A serving member that leaves the Service, and why."""

    name: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Ejections:
    """Who leaves, who serves well, and why others stay, or leave all the same, if the rest cannot carry their load.

    `panicked` are those others, by name.
    """

    gone: tuple[Ejection, ...]
    good: tuple[EvaluatedMember, ...]
    lag_panic: str = ""
    panicked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Substitutes:
    """Standbys that take a place in this pass, or have one and are not confirmed; `obstacle` is why no other may."""

    count: int = 0
    obstacle: str = ""


def decide_ejections(
    members: Sequence[EvaluatedMember],
    *,
    desired: int,
    bounds: Readiness,
    has_primary: bool,
    substitutes: Substitutes = Substitutes(),
) -> Ejections:
    """Evaluate the serving members."""
    serving = [member for member in members if member.facts.role is Role.SERVING and member.facts.is_alive]
    disowned = [member for member in serving if member.verdict.is_failed]
    rest = [member for member in serving if member not in disowned]
    streaming = frozenset(member.name for member in rest if _is_streaming(member.facts))
    troubles = {
        member.name: trouble
        for member in rest
        if (trouble := _find_trouble(member, bounds, has_primary=has_primary, streaming=streaming)) is not None
    }
    # One that is not confirmed replaces nobody yet: the Service may not list it.
    good = [
        member
        for member in rest
        if member.name not in troubles and _is_reachable(member) and member.facts.activating_seconds is None
    ]
    troubled = sorted((member for member in rest if member.name in troubles), key=_rank)
    load = _Load(tuple(good), desired, max(1, min(bounds.min_serving, desired)))
    out, stuck = load.weigh(troubled, substitutes)
    # Other libraries are not a lag: the member's verdict reports them, and `onLagPanic` does not decide about them.
    stuck = [member for member in stuck if troubles[member.name].reason not in LIBRARY_REASONS]
    if stuck and bounds.on_lag_panic is OnLagPanic.EJECT:
        left = [member for member in troubled if member not in out and not member.facts.has_other_libraries]
        out += left if good else left[:-1]
    message = load.describe(stuck, out, troubles, substitutes, bounds) if stuck else ""
    gone = [Ejection(member.name, member.verdict.reason, member.verdict.message) for member in disowned]
    gone += [Ejection(member.name, troubles[member.name].reason, troubles[member.name].message) for member in out]
    return Ejections(tuple(gone), tuple(good), message, tuple(member.name for member in stuck))


@dataclass(frozen=True, slots=True)
class _Load:
    """What those that serve well can carry; `least` is how many must stay in the Service whatever their lag."""

    good: tuple[EvaluatedMember, ...]
    desired: int
    least: int

    def weigh(
        self, troubled: Sequence[EvaluatedMember], substitutes: Substitutes
    ) -> tuple[list[EvaluatedMember], list[EvaluatedMember]]:
        """Who leaves now, of those in the order of preference, and who cannot and waits for no substitute either."""
        if not self.good:
            # None is taken out: one after the other may get a substitute.
            return [], list(troubled[substitutes.count :])
        # Kubernetes has taken one that is not ready out of the Service already.
        out = [member for member in troubled if not _is_reachable(member)]
        loaded = [member for member in troubled if member not in out]
        surplus = max(len(self.good) + len(loaded) - max(self.desired, self.least), 0)
        out, loaded = [*out, *loaded[:surplus]], loaded[surplus:]
        if len(self.good) >= self.least and self._can_carry(loaded):
            return [*out, *loaded], []
        return out, loaded[substitutes.count :]

    def _can_carry(self, others: Sequence[EvaluatedMember]) -> bool:
        """Whether the sessions of all would fit; one that could not be asked is taken for full."""
        everyone = [member.facts for member in (*self.good, *others)]
        if not all(facts.allowed for facts in everyone):
            return False
        capacity = sum(member.facts.allowed for member in self.good)
        return sum(facts.sessions for facts in everyone) < CARRIES * capacity

    def describe(
        self,
        stuck: Sequence[EvaluatedMember],
        out: Sequence[EvaluatedMember],
        troubles: dict[str, Finding],
        substitutes: Substitutes,
        bounds: Readiness,
    ) -> str:
        """Cause first: what is wrong with whom, whether that stays, why, and what would change it."""
        cause, obstacle = "no other replica serves well", substitutes.obstacle or "no standby can take over"
        if self.good:
            cause = f"{count_of(len(self.good), 'other replica', 'other replicas')} could not carry the load"
        gone, kept = [one for one in stuck if one in out], [one for one in stuck if one not in out]
        if bounds.on_lag_panic is not OnLagPanic.EJECT:
            stays = f"kept in the Service, since {cause} and {obstacle}"
        else:
            stays = f"kept in the Service: it is the last one, and {obstacle}"
        leaves = f"out of the Service all the same, since {cause} and {obstacle}"
        parts = ((gone, leaves), (kept, stays))
        return "; ".join(f"{_describe_all(those, troubles)}; {what}" for those, what in parts if those)


def _find_trouble(
    member: EvaluatedMember, bounds: Readiness, *, has_primary: bool, streaming: frozenset[str]
) -> Finding | None:
    """Why a member should leave, if others can take its load; None if it serves as it should."""
    facts, verdict = member.facts, member.verdict
    bound = bounds.eject_replay_lag.total_seconds()
    if not has_primary:
        # Nobody knows how far any of them is behind, but one that is cut off falls back behind those that are not.
        is_cut_off = facts.cut_seconds >= bound and not facts.unanswered and bool(streaming - {member.name})
        return Finding(Reason.NOT_STREAMING, "its WAL receiver is not connected") if is_cut_off else None
    if verdict.is_due_for_replacement:
        return Finding(verdict.reason, verdict.message)
    if facts.library_fault is not None and facts.has_other_libraries:
        return facts.library_fault
    if facts.unanswered >= timeouts.PROBES_TO_LEAVE:
        cause = f": {facts.silence}" if facts.silence else ""
        return Finding(Reason.MEMBER_UNREACHABLE, f"it does not answer probes{cause}")
    # A replica without a stream falls behind by a second each second. One that cannot be asked shows it by its slot.
    if facts.is_full and facts.slot_idle_seconds >= bound:
        return Finding(Reason.NOT_STREAMING, f"nobody reads from slot {facts.slot_name}")
    if facts.ineligible is not None and facts.unstreamed_age >= bound:
        return Finding(facts.ineligible.reason, facts.ineligible.message)
    if facts.beyond >= timeouts.READINGS_TO_LEAVE:
        # A silence, or a lag that may be more, refutes no reading.
        is_now = verdict.reason is Reason.REPLAY_LAG_ABOVE_LIMIT or facts.stale is None
        message = verdict.message if is_now else f"it {describe_stale(facts)}"
        return Finding(Reason.REPLAY_LAG_ABOVE_LIMIT, message)
    return None


def _is_streaming(facts: Member) -> bool:
    return facts.probe is not None and facts.probe.is_streaming and not facts.unanswered


def _is_reachable(member: EvaluatedMember) -> bool:
    return member.facts.pod is not None and member.facts.pod.is_ready


def _rank(member: EvaluatedMember) -> tuple[bool, float]:
    """Those that cannot be measured first, then the most lagged."""
    lag = member.facts.lag
    return isinstance(lag, ReplayLag), -lag.seconds if isinstance(lag, ReplayLag) else 0.0


def _describe_all(those: Sequence[EvaluatedMember], troubles: dict[str, Finding]) -> str:
    named = [_describe_stale(member, troubles[member.name]) for member in those[:NAMED]]
    more = [f"{len(those) - NAMED} more"] if len(those) > NAMED else []
    return ", ".join([*named, *more])


def _describe_stale(member: EvaluatedMember, trouble: Finding) -> str:
    if trouble.reason is Reason.REPLAY_LAG_ABOVE_LIMIT:
        return f"{member.name} {describe_stale(member.facts)}"
    return f"{member.name}: {trouble.message}"
