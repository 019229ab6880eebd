"""What outlives the process: a guard's memory to and from its status."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from headroom.api.v1alpha1.common import GuardState
from headroom.model.condition_types import ConditionType
from headroom.model.moments import Moment, keep_time, parse_moment
from headroom.model.numbers import round_number
from headroom.policy.databaseguard.baseline import CalmSamples
from headroom.policy.databaseguard.facts import GuardMemory, ServerMemory
from headroom.policy.databaseguard.signals import BASED_SIGNALS, Baseline, Level
from headroom.policy.databaseguard.state import LEAVE_AFTER_SECONDS, StateMemory
from headroom.reasons import Reason

LONGEST_CALM_SECONDS = LEAVE_AFTER_SECONDS / 2
"""Nobody watched between two processes: of the calm an earlier one saw, at most so much counts."""
_LEVELS: Mapping[str, Level] = {str(level.state): level for level in Level}


def restore(status: Mapping[str, Any], now: Moment) -> GuardMemory:
    """The memory that an earlier process published, so that a new leader does not begin with an all-clear.

    Lost on purpose: the open sample and the last verdicts; the measurement a state was entered by (its signal stays).
    Only the baseline is left of the Healthy samples.
    Also the connections of others, the budget and the allocations; the idle times of slots. A calm counts for one
    minute at most. A level that was not shown, because the server could not be used, is lost too.
    """
    state = _restore_state(status, now)
    known = (status.get("memory") or {}).get("baseline") or {}
    baseline = Baseline((name, float(known[name])) for name in BASED_SIGNALS if known.get(name) is not None)
    server = ServerMemory(
        state=state,
        has_had_state=state.level is not None,
        sampled_at=now.monotonic,
        calm=CalmSamples(baseline=baseline),
    )
    since = status.get("stateSince")
    return GuardMemory(
        seen_at=now.monotonic,
        is_resumed=state.level is not None,
        system_identifier=status.get("systemIdentifier"),
        highest_timeline=status.get("timeline") or 0,
        server=server,
        shown=GuardState(status.get("state", GuardState.UNKNOWN)),
        shown_since=None if since is None else now.to_monotonic(since),
        reported_state=state,
        reported_reason=_find_reason(status),
    )


def _find_reason(status: Mapping[str, Any]) -> Reason | None:
    """The reason of Ready, as the conditions of the status have it: they say it already."""
    conditions = status.get("conditions") or ()
    found = next((entry["reason"] for entry in conditions if entry["type"] == ConditionType.READY), None)
    return Reason(found) if found in set(Reason) else None


def _restore_state(status: Mapping[str, Any], now: Moment) -> StateMemory:
    level = _LEVELS.get(status.get("state", ""))
    if level is None:
        return StateMemory()
    since, calm_since = status.get("stateSince"), (status.get("memory") or {}).get("cleanSince")
    calm = None if calm_since is None else max(now.to_monotonic(calm_since), now.monotonic - LONGEST_CALM_SECONDS)
    return StateMemory(
        level,
        status.get("stateSignal") or "",
        calm_since=calm,
        since=now.monotonic if since is None else now.to_monotonic(since),
    )


def checkpoint(memory: GuardMemory, now: Moment, old: Mapping[str, Any]) -> dict[str, Any]:
    """The part of status that `restore` reads; times that mean the same second as in `old` keep its text."""
    state, is_shown = memory.server.state, memory.shown is memory.server.state.state
    since = state.since if is_shown and state.since is not None else memory.shown_since
    before = old.get("stateSince") if old.get("state") == str(memory.shown) else None
    clean_before = (old.get("memory") or {}).get("cleanSince")
    clean = None if state.calm_since is None else keep_time(now.to_wall(state.calm_since), clean_before)
    kept = (("cleanSince", clean), ("baseline", _write_baseline(memory.server.calm.baseline)))
    return {
        "state": str(memory.shown),
        "stateSince": keep_time(now.wall if since is None else now.to_wall(since), before),
        "stateSignal": (state.signal or None) if is_shown else None,
        "systemIdentifier": memory.system_identifier,
        "timeline": memory.highest_timeline or None,
        "memory": {key: value for key, value in kept if value} or None,
    }


def _write_baseline(baseline: Baseline) -> dict[str, float]:
    """The known entries, by signal."""
    names = ("commitLatency", "lockWaiters", "activePerCorePercent", "oldestTransaction")
    return {name: round_number(baseline[name]) for name in names if name in baseline}


def read_time(text: str | None) -> datetime | None:
    """A time of status, or None."""
    return None if text is None else parse_moment(text)
