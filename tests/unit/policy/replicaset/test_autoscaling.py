"""The number of serving replicas: bounds, windows, steps, and a missing signal that never lowers."""

from hypothesis import given, settings
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
from headroom.policy.replicaset.growth import Connections, Growth
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


def test_one_full_replica_asks_for_another_however_empty_the_rest() -> None:
    assert decide(used(92), used(5)).desired == 3


def test_a_saturated_reading_takes_every_standby_up_to_the_step() -> None:
    assert decide(used(98), standbys=5).desired == 5
    assert decide(used(98), standbys=2).desired == 3


def test_scale_in_looks_at_active_sessions_and_that_idle_ones_still_fit() -> None:
    quiet = {"scaleDown": {"stabilizationWindow": "0s", "maxStep": 4}}
    assert decide(*[used(20, active=5)] * 4, behavior=quiet).desired == 2
    assert decide(*[used(70, active=5)] * 4, behavior=quiet).desired == 4


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


class Sessions:
    """Replicas with sessions, and the goal of one pass after another; sessions move only if a test moves them."""

    def __init__(self, *used: int) -> None:
        self.used, self.growth, self.now = list(used), Growth(), NOW
        self.wanted = list(LONG_AGO)
        self.desired, self.most = len(used), len(used)
        self.goal: Goal | None = None

    def readings(self) -> list[Connections]:
        return [Connections(count, min(count, self.active), 100, f"store-{n}") for n, count in enumerate(self.used)]

    active = 100
    scaling = scaling(maxReplicas=32)

    def passes(self, count: int = 200) -> "Sessions":
        for _ in range(count):
            readings = self.readings()
            self.growth = self.growth.observe(readings, [reading.name for reading in readings], 0.7, self.now)
            self.goal = decide_by_signals(
                self.scaling, Sizes(self.desired, len(self.used), 0), readings, Past(self.wanted, self.growth), self.now
            )
            self.wanted.append(Recommendation(self.now, self.goal.wanted))
            self.growth = self.growth.record_asked(self.goal.relieved, self.now)
            self.desired = self.goal.desired
            self.most = max(self.most, self.desired)
            self.used += [0] * (self.desired - len(self.used))
            while len(self.used) > self.desired:
                self.used.remove(min(self.used))
            self.now += 1
        return self


def test_sessions_that_stay_on_one_full_replica_add_one_and_not_one_at_each_step() -> None:
    sessions = Sessions(92).passes()
    assert sessions.most == 2
    assert sessions.goal is not None
    assert sessions.goal.reason is Reason.NO_GAIN_FROM_MORE_REPLICAS
    assert sessions.goal.message.startswith("store-0 stays at 92% although another replica was added for it")
    assert "shorten the lifetime" in sessions.goal.message


def test_a_full_replica_whose_sessions_have_had_no_time_to_move_is_no_finding_yet() -> None:
    sessions = Sessions(92).passes(30)
    assert sessions.goal is not None
    assert sessions.goal.reason is Reason.WITHIN_TOLERANCE


def test_an_added_replica_that_stays_empty_ends_the_growth_for_the_other_full_ones_too() -> None:
    assert Sessions(92, 91, 5, 5, 5).passes().most == 6


def test_sessions_that_spread_grow_as_far_as_they_need() -> None:
    sessions = Sessions(92)
    for load in (92, 180, 300, 420, 560):
        for _ in range(20):
            sessions.used = [load // len(sessions.used)] * len(sessions.used)
            sessions.passes(1)
    assert sessions.desired == 8


def test_a_replica_asks_again_once_it_was_relieved() -> None:
    sessions = Sessions(92, 20, 20).passes(5)
    assert sessions.desired == 4
    sessions.used = [60, 30, 30, 30]
    sessions.passes(1)
    sessions.used[0] = 93
    assert sessions.passes(5).desired == 5


def test_a_sum_above_its_target_grows_whoever_is_full() -> None:
    assert Sessions(92, 92, 92).passes(2).desired >= 4


@settings(max_examples=25)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=6))
def test_sessions_that_never_move_add_no_more_than_one_for_each_full_replica(used: list[int]) -> None:
    sessions = Sessions(*used)
    full = sum(count >= 90 for count in used)
    assert sessions.passes(60).most <= max(-(-sum(used) // 70), len(used) + full)
    sessions.used = [count // 10 for count in sessions.used]
    assert sessions.passes(310 + 2 * len(sessions.used)).desired <= len(used)


def test_a_count_of_sessions_that_stands_still_is_said_and_holds_nothing() -> None:
    sessions = Sessions(50, 50).passes(59)
    assert sessions.goal is not None
    assert sessions.goal.notes == ()
    sessions.passes(10)
    [note] = sessions.goal.notes
    assert note.reason is Reason.SIGNAL_AT_LIMIT
    assert note.message.startswith("exactly 100 sessions for 60 s")
    sessions.used[0] = 51
    assert sessions.passes(1).goal is not None
    assert sessions.goal.notes == ()


def test_sessions_that_idle_are_no_pool_at_its_limit() -> None:
    sessions = Sessions(30, 30)
    sessions.active = 20
    assert sessions.passes(90).goal is not None
    assert sessions.goal is not None
    assert sessions.goal.notes == ()
