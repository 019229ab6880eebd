"""Whether a replica may serve by its replay lag: two bounds, in seconds and in bytes, so that none flaps."""

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.database import ReplicaProbe
from headroom.policy.replicaset.replay_lag import LagVerdict, ReplayLag


def is_within(lag: LagVerdict | None, bounds: Readiness) -> bool:
    """Under both enter bounds, measured now; unknown is not within."""
    if not isinstance(lag, ReplayLag):
        return False
    return lag.seconds <= bounds.max_replay_lag.total_seconds() and lag.bytes <= bounds.max_replay_backlog


def is_beyond(lag: LagVerdict | None, bounds: Readiness) -> bool:
    """Over both leave bounds, measured now; unknown is not beyond."""
    if not isinstance(lag, ReplayLag):
        return False
    return lag.seconds > bounds.eject_replay_lag.total_seconds() and lag.bytes > bounds.eject_replay_backlog


def describe_lag(lag: LagVerdict | None) -> str:
    """The reading in words."""
    if isinstance(lag, ReplayLag):
        return f"replay lag {lag.seconds:.1f} s, {lag.bytes / 1024**2:.1f} MiB to replay"
    return (lag.message if lag else "") or "the replay lag is not known"


def describe_pause(probe: ReplicaProbe | None) -> str:
    """What to add where somebody, or a parameter below the primary's, has paused replay: only a person resumes it."""
    if probe is None or not probe.is_replay_paused:
        return ""
    return "; its replay is paused: read its log, then run SELECT pg_wal_replay_resume() on it"
