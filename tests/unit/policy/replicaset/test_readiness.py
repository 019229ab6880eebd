"""Who may enter, by seconds and bytes; who must leave, by seconds alone; and what lies between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.serving import Readiness
from headroom.policy.replicaset.replay_lag import (
    LagUnknown,
    LagVerdict,
    NotEligible,
    ReplayLag,
    describe_lag,
    describe_pause,
    is_beyond,
    is_within,
)
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import BETWEEN, BEYOND, BOUNDS, UNKNOWN, WITHIN, make_probe

MIB = 1024**2
DOWN = NotEligible(Reason.NOT_STREAMING, "its WAL receiver is not connected")
LAGS = st.builds(ReplayLag, st.floats(0, 100), st.integers(0, 200 * MIB))


@pytest.mark.parametrize(
    ("lag", "within", "beyond"),
    [
        (ReplayLag(1.0, 16 * MIB), True, False),
        (ReplayLag(1.01, 16 * MIB), False, False),
        (ReplayLag(1.0, 16 * MIB + 1), False, False),
        (ReplayLag(10.0, 64 * MIB), False, False),
        (ReplayLag(10.0, 1024 * MIB), False, False),
        (ReplayLag(10.01, 64 * MIB), False, True),
        (ReplayLag(820.0, 0), False, True),
    ],
)
def test_the_bounds_themselves_are_allowed(lag: ReplayLag, within: bool, beyond: bool) -> None:
    assert is_within(lag, BOUNDS) is within
    assert is_beyond(lag, BOUNDS) is beyond


@pytest.mark.parametrize("lag", [None, UNKNOWN, DOWN])
def test_what_is_not_measured_is_neither_within_nor_beyond(lag: LagVerdict | None) -> None:
    assert not is_within(lag, BOUNDS)
    assert not is_beyond(lag, BOUNDS)


@given(LAGS)
def test_nothing_is_within_and_beyond_at_once(lag: ReplayLag) -> None:
    assert not (is_within(lag, BOUNDS) and is_beyond(lag, BOUNDS))


@given(LAGS, st.floats(0, 50), st.integers(0, 100 * MIB))
def test_more_lag_never_lets_in_and_never_keeps_in(lag: ReplayLag, seconds: float, more: int) -> None:
    worse = ReplayLag(lag.seconds + seconds, lag.bytes + more)
    assert is_within(lag, BOUNDS) or not is_within(worse, BOUNDS)
    assert is_beyond(worse, BOUNDS) or not is_beyond(lag, BOUNDS)


def test_the_spec_moves_the_bounds() -> None:
    wide = Readiness(max_replay_lag="30s", eject_replay_lag="2m", max_replay_backlog="1Gi")
    assert is_within(BETWEEN, wide)
    assert not is_beyond(BEYOND, wide)


@pytest.mark.parametrize(
    ("lag", "words"),
    [
        (WITHIN, "replay lag 0.1 s, 0.0 MiB to replay"),
        (BEYOND, "replay lag 60.0 s, 1024.0 MiB to replay"),
        (DOWN, "its WAL receiver is not connected"),
        (UNKNOWN, "the primary last answered 9 s ago"),
        (LagUnknown(Reason.READS_UNBOUNDED, ""), "the replay lag is not known"),
        (None, "the replay lag is not known"),
    ],
)
def test_a_lag_is_described_or_why_there_is_none(lag: LagVerdict | None, words: str) -> None:
    assert describe_lag(lag) == words


def test_a_paused_replay_comes_with_the_remedy() -> None:
    assert describe_pause(None) == describe_pause(make_probe()) == ""
    assert "pg_wal_replay_resume" in describe_pause(make_probe(is_replay_paused=True))
