"""Whose cache is filled now, with what which member has cached, and when that is stopped.

Nothing waits for it: a standby serves with what its cache holds when it is needed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.frozen import FrozenMap
from headroom.model.replica import Role, Stage
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.policy.replicaset.replay_lag import describe_lag, is_within

REFRESH_SECONDS = 600.0
"""How often a standby's cache is filled again: what is hot moves, and replay displaces what was read."""
RETRY_SECONDS = 60.0
"""How soon after a run that was stopped or failed: a replay that fell behind needs the disk for itself first."""


@dataclass(frozen=True, slots=True)
class WarmupState:
    """What was done for one member's cache. `ended_at` is monotonic seconds, None if it was never filled since its
    server started; `is_done`: the last run came to its own end.
    """

    is_running: bool = False
    ended_at: float | None = None
    is_done: bool = False

    def is_due(self, now: float) -> bool:
        """Whether a run may begin."""
        if self.is_running:
            return False
        pause = REFRESH_SECONDS if self.is_done else RETRY_SECONDS
        return self.ended_at is None or now - self.ended_at >= pause


class WarmupStart(NamedTuple):
    """Fill the cache of `member` with what is hot in that of `source`."""

    member: str
    source: str


@dataclass(frozen=True, slots=True)
class WarmupPlan:
    """`stop` has the members whose run ends, and why."""

    start: WarmupStart | None = None
    stop: FrozenMap[str, str] = field(default_factory=FrozenMap)


def plan_warmup(
    members: Sequence[EvaluatedMember],
    states: Mapping[str, WarmupState],
    bounds: Readiness,
    taken: Collection[str],
    now: float,
) -> WarmupPlan:
    """One set at one moment; `taken` names standbys that this pass may put into the Service."""
    running = [member for member in members if _state(states, member).is_running]
    reasons = {member.name: _find_stop(member, bounds, taken) for member in running}
    stop = FrozenMap((name, why) for name, why in reasons.items() if why)
    if len(stop) < len(running):
        # One at a time: two would share a disk, and read the cache of the same serving member twice.
        return WarmupPlan(None, stop)
    source = _choose_source(members)
    due = [
        member
        for member in members
        if member.name not in taken and _is_fit(member, bounds) and _state(states, member).is_due(now)
    ]
    if source is None or not due:
        return WarmupPlan(None, stop)
    first = min(due, key=lambda member: (_state(states, member).ended_at or 0.0, member.name))
    return WarmupPlan(WarmupStart(first.name, source.name), stop)


def _state(states: Mapping[str, WarmupState], member: EvaluatedMember) -> WarmupState:
    return states.get(member.name, WarmupState())


def _is_standby(member: EvaluatedMember) -> bool:
    return member.facts.is_alive and member.facts.role is Role.STANDBY


def _is_fit(member: EvaluatedMember, bounds: Readiness) -> bool:
    is_ready = member.facts.pod is not None and member.facts.pod.is_ready
    is_warm = member.verdict.stage is Stage.STANDBY and is_within(member.facts.lag, bounds)
    return _is_standby(member) and is_ready and is_warm


def _find_stop(member: EvaluatedMember, bounds: Readiness, taken: Collection[str]) -> str:
    """Why its run ends now; empty if it may continue. A reading that is missing stops nothing: the next one may."""
    if member.name in taken:
        return "it is needed in the Service"
    if not _is_standby(member):
        return "it is not a standby any more"
    lag, ineligible = member.facts.measured, member.facts.ineligible
    if ineligible is not None:
        return f"it may not serve: {ineligible.message}"
    if lag is not None and not is_within(lag, bounds):
        return f"its replay fell behind: {describe_lag(lag)}"
    return ""


def _choose_source(members: Sequence[EvaluatedMember]) -> EvaluatedMember | None:
    """The serving member with the least to do; its cache has what readers use."""

    def rank(member: EvaluatedMember) -> tuple[int, int, str]:
        probe = member.facts.probe
        return (probe.active_sessions, probe.sessions, member.name) if probe is not None else (0, 0, member.name)

    return min(filter(_may_be_source, members), key=rank, default=None)


def _may_be_source(member: EvaluatedMember) -> bool:
    facts = member.facts
    is_well = facts.measured is not None and not facts.is_full
    return is_well and facts.is_alive and member.verdict.stage is Stage.SERVING and facts.is_listed
