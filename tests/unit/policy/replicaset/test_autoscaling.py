"""The number of serving replicas: bounds, windows, steps, and a missing signal that never lowers."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.autoscaling import Autoscaling
from headroom.policy.replicaset.autoscaling import (
    Goal,
    Past,
    Recommendation,
    Sizes,
    decide_by_hand,
    decide_by_signals,
)
from headroom.policy.replicaset.growth import Connections
from headroom.reasons import Reason

LONG_AGO = (Recommendation(0.0, 1),)
NOW = 1000.0
READINGS = st.lists(
    st.none()
    | st.builds(
        lambda sessions, active: Connections(sessions, min(active, sessions), 100),
        st.integers(0, 100),
        st.integers(0, 100),
    ),
    max_size=6,
)


def scaling(**changes: object) -> Autoscaling:
    connections = {"name": "conns", "type": "Connections", "connections": {"utilizationPercent": 70}}
    spec = {"minReplicas": 1, "maxReplicas": 6, "signals": [connections], **changes}
    return Autoscaling.model_validate(spec)


def decide(
    *readings: Connections | None,
    desired: int | None = None,
    standbys: int = 0,
    history: tuple[Recommendation, ...] = LONG_AGO,
    **changes: object,
) -> Goal:
    count = len(readings)
    sizes = Sizes(desired if desired is not None else count, count, standbys)
    return decide_by_signals(scaling(**changes), sizes, readings, Past(history), NOW)


def used(sessions: int, active: int = 0) -> Connections:
    return Connections(sessions, active, 100)


def test_a_single_full_replica_is_named_as_the_cause() -> None:
    goal = decide(used(93), used(53))
    assert goal.desired == 3
    assert goal.message.startswith("one replica is at 93%, from 90% on it asks for another; 146 sessions on 2 replicas")


def test_by_hand_is_by_hand() -> None:
    assert decide_by_hand(3).desired == 3


def test_more_sessions_than_the_target_ask_for_more() -> None:
    goal = decide(used(80), used(90))
    assert goal.desired == 3
    assert goal.reason is Reason.UTILIZATION_ABOVE_TARGET
    assert goal.rule == "conns"


def test_within_the_tolerance_nothing_moves() -> None:
    assert decide(used(74), used(74)).reason is Reason.WITHIN_TOLERANCE


def test_one_full_replica_asks_for_another_however_low_the_average() -> None:
    assert decide(used(92), used(15)).desired == 3


def test_beside_an_empty_replica_nobody_asks_for_another_one() -> None:
    assert decide(used(92), used(10)).desired == 2
    assert decide(used(92), replace(used(10), takes_new=False)).desired == 3, "it is not ready, so it cannot help"
    assert decide(used(92), used(92), used(92), used(0)).desired == 4, "the sum asks for as many as there are"


def test_a_saturated_reading_takes_every_standby_up_to_the_step() -> None:
    assert decide(used(98), standbys=5).desired == 5
    assert decide(used(98), standbys=2).desired == 3


def test_scale_in_looks_at_active_sessions_and_that_idle_ones_still_fit() -> None:
    quiet = {"scaleDown": {"stabilizationWindow": "0s", "maxStep": 4}}
    assert decide(*[used(20, active=5)] * 4, behavior=quiet).desired == 2
    assert decide(*[used(70, active=5)] * 4, behavior=quiet).desired == 4


def test_a_replica_that_is_full_and_could_not_be_counted_shrinks_nothing() -> None:
    full, rest = Connections(100, 100, 100), [used(5)] * 4
    assert decide(full, *rest).wanted == 2
    assert decide(replace(full, is_estimate=True), *rest).wanted == 5


def test_scale_in_waits_for_a_full_window_since_this_process_looks() -> None:
    assert decide(used(0), used(0), history=()).desired == 2
    young = (Recommendation(NOW - 100, 1),)
    held = decide(used(0), used(0), history=young)
    assert held.desired == 2
    assert held.limit is Reason.STABILIZING
    assert decide(used(0), used(0)).desired == 1


def test_the_largest_want_of_the_window_holds() -> None:
    history = (*LONG_AGO, Recommendation(NOW - 200, 3))
    assert decide(used(0), used(0), used(0), history=history).desired == 3


def test_scale_up_is_bounded_by_the_step_from_what_serves() -> None:
    step = {"scaleUp": {"maxStep": 1}}
    goal = decide(*[used(100)] * 2, behavior=step)
    assert goal.desired == 3
    waiting = decide(*[used(100)] * 2, desired=3, behavior=step)
    assert waiting.desired == 3
    assert waiting.limit is Reason.STEP_LIMITED or waiting.wanted == 3


def test_the_maximum_is_named_as_the_limit() -> None:
    goal = decide(*[used(100)] * 6)
    assert goal.desired == 6
    assert goal.limit is Reason.AT_MAXIMUM


def test_a_signal_of_a_type_that_is_not_read_holds_and_says_so() -> None:
    cpu = {"name": "cpu", "type": "CPU", "cpu": {"utilizationPercent": 70}}
    goal = decide(used(0), used(0), signals=[cpu])
    assert goal.desired == 2
    assert goal.reason is Reason.STALE_SIGNAL


def test_one_missing_signal_keeps_the_others_from_shrinking_but_not_from_growing() -> None:
    conns = {"name": "conns", "type": "Connections", "connections": {"utilizationPercent": 70}}
    cpu = {"name": "cpu", "type": "CPU", "cpu": {"utilizationPercent": 70}}
    held = decide(used(0), used(0), signals=[conns, cpu])
    assert held.desired == 2
    assert [signal.message.split(" (")[0] for signal in held.missing] == ["signal cpu"]
    assert decide(used(90), used(90), signals=[conns, cpu]).desired == 3


@given(READINGS, st.integers(1, 6), st.integers(0, 3))
def test_the_goal_is_within_its_bounds(readings: list[Connections | None], desired: int, standbys: int) -> None:
    goal = decide(*readings, desired=desired, standbys=standbys)
    assert 1 <= goal.desired <= 6


@given(READINGS, st.integers(1, 6))
def test_a_missing_reading_never_lowers(readings: list[Connections | None], desired: int) -> None:
    goal = decide(None, *readings, desired=desired)
    assert goal.desired >= min(desired, 6)


@given(st.lists(st.integers(0, 95), min_size=1, max_size=6), st.integers(0, 5))
def test_more_sessions_never_ask_for_fewer(sessions: list[int], more: int) -> None:
    quiet = {"scaleDown": {"stabilizationWindow": "0s", "maxStep": 48}, "scaleUp": {"maxStep": 48}}
    few = decide(*[used(count, count) for count in sessions], behavior=quiet)
    many = decide(*[used(count + more, count + more) for count in sessions], behavior=quiet)
    assert many.desired >= few.desired


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6))
def test_after_a_scale_in_the_same_sessions_do_not_ask_for_it_back(sessions: list[int]) -> None:
    quiet = {"scaleDown": {"stabilizationWindow": "0s", "maxStep": 48}}
    before = decide(*[used(count, 0) for count in sessions], behavior=quiet)
    if before.desired >= len(sessions):
        return
    each = -(-sum(sessions) // before.desired)
    after = decide(*[used(each, 0)] * before.desired, behavior=quiet)
    assert after.desired <= before.desired + (1 if each >= 90 else 0)
