"""Growth by sessions that do not move: one more for a full replica, and never one more at each swing."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headroom.model.frozen import FrozenMap
from headroom.policy.replicaset.autoscaling import Goal, Past, Recommendation, Sizes, decide_by_signals
from headroom.policy.replicaset.growth import RETRY_SECONDS, Addition, Connections, Growth
from headroom.reasons import Reason
from tests.unit.policy.replicaset.test_autoscaling import scaling

TARGET = 0.7
SCALING = scaling(maxReplicas=32)
LONGEST = 400.0
"""Longer than the window; more than that only costs time."""
LOADS = st.lists(st.integers(0, 99), min_size=1, max_size=4)


class Fleet:
    """Replicas of 100 sessions each, and one pass after another; sessions move only if a test moves them.

    What is added serves after `lead` seconds, and without sessions.
    """

    def __init__(self, *used: int, lead: float = 0.0, step: float = 1.0) -> None:
        self.lead, self.step, self.now = lead, step, 0.0
        self.used = {f"store-{number}": count for number, count in enumerate(used)}
        self.begun: list[float] = []
        self.growth, self.wanted = Growth(), [Recommendation(-LONGEST, 1)]
        self.desired = self.most = len(used)
        self.ups = self.made = 0
        self.unready: set[str] = set()
        self.active = 100
        self.goal: Goal = Goal(self.desired, self.desired, "", Reason.WITHIN_TOLERANCE, "")

    def readings(self) -> list[Connections]:
        return [
            Connections(count, min(count, self.active), 100, name, name not in self.unready)
            for name, count in self.used.items()
        ]

    def passes(self, count: int = 200) -> "Fleet":
        for _ in range(count):
            self.one_pass()
        return self

    def run(self, seconds: float) -> "Fleet":
        return self.passes(int(seconds / self.step))

    def one_pass(self) -> None:
        self._arrive()
        readings, serving = self.readings(), len(self.used)
        self.growth = self.growth.observe(
            readings, list(self.used), TARGET, self.now, count=serving, desired=self.desired
        )
        past = Past(self.wanted, self.growth)
        self.goal = decide_by_signals(SCALING, Sizes(self.desired, serving, 0), readings, past, self.now)
        self.growth = self.growth.record_asked(self.goal.relieved, self.goal.desired, self.now)
        kept = [entry for entry in self.wanted if self.now - entry.at <= LONGEST]
        self.wanted = [*kept, Recommendation(self.now, self.goal.wanted)]
        self.ups += self.goal.desired > self.desired
        self.desired = self.goal.desired
        self.most = max(self.most, self.desired)
        self._move()
        self.now += self.step

    def _arrive(self) -> None:
        for at in [at for at in self.begun if at + self.lead <= self.now]:
            self.begun.remove(at)
            self.made += 1
            self.used[f"added-{self.made}"] = 0

    def _move(self) -> None:
        self.begun += [self.now] * (self.desired - len(self.used) - len(self.begun))
        while self.begun and len(self.used) + len(self.begun) > self.desired:
            self.begun.pop()
        if len(self.used) > self.desired:
            del self.used[min(self.used, key=lambda name: self.used[name])]

    def restart(self) -> "Fleet":
        """Another process knows from status for whom another was decided on, and when."""
        at = {name: addition.at for name, addition in self.growth.asked.items()}
        self.growth = Growth(FrozenMap((name, Addition(at[name])) for name in at), full=FrozenMap(at))
        self.wanted = []
        return self


def test_sessions_that_stay_on_one_full_replica_add_one_and_not_one_at_each_step() -> None:
    fleet = Fleet(92).passes()
    assert fleet.most == 2
    assert fleet.goal.reason is Reason.NO_GAIN_FROM_MORE_REPLICAS
    assert fleet.goal.message.startswith("store-0 stays at 92% although another replica was added for it")
    assert "shorten the lifetime" in fleet.goal.message


def test_a_full_replica_whose_sessions_have_had_no_time_to_move_is_no_finding_yet() -> None:
    assert Fleet(92).passes(30).goal.reason is Reason.WITHIN_TOLERANCE


def test_an_added_replica_that_stays_empty_ends_the_growth_for_the_other_full_ones_too() -> None:
    assert Fleet(92, 91, 15, 15, 15).passes().most == 6


def test_sessions_that_spread_grow_as_far_as_they_need() -> None:
    fleet = Fleet(92)
    for load in (92, 180, 300, 420, 560):
        for _ in range(20):
            fleet.used = dict.fromkeys(fleet.used, load // len(fleet.used))
            fleet.passes(1)
    assert fleet.desired == 8


def test_a_replica_asks_again_once_it_was_relieved() -> None:
    fleet = Fleet(92, 20, 20).passes(5)
    assert fleet.desired == 4
    fleet.used = dict.fromkeys(fleet.used, 30)
    fleet.passes(1)
    fleet.used["store-0"] = 93
    assert fleet.passes(5).desired == 5


def test_a_sum_above_its_target_grows_whoever_is_full() -> None:
    assert Fleet(92, 92, 92).passes(2).desired >= 4


@pytest.mark.parametrize("seconds", [10, 40, 60, 120, 240, 290])
@pytest.mark.parametrize("active", [0, 100], ids=["idle", "active"])
def test_a_pool_that_swings_around_the_target_adds_one_replica_and_keeps_it(seconds: int, active: int) -> None:
    fleet = Fleet(69, step=5)
    fleet.active = active
    for _ in range(8):
        for load in (92, 69):
            fleet.used["store-0"] = load
            fleet.run(seconds)
    assert (fleet.most, fleet.ups) == (2, 1)


@pytest.mark.parametrize("seconds", [40, 240, 480, 900])
def test_at_whatever_pace_a_pool_swings_one_in_an_hour_is_tried_beside_replicas_in_use(seconds: int) -> None:
    fleet = Fleet(69, 15, step=10)
    while fleet.now < 2 * RETRY_SECONDS:
        for load in (92, 69):
            fleet.used["store-0"] = load
            fleet.run(seconds)
    assert fleet.most == 3
    assert fleet.ups <= 3


def test_two_pools_that_swing_against_each_other_do_not_take_turns_in_adding() -> None:
    fleet = Fleet(92, 15, step=5)
    for _ in range(12):
        for loads in ((92, 15), (15, 92)):
            fleet.used.update(zip(("store-0", "store-1"), loads, strict=True))
            fleet.run(120)
    assert (fleet.most, fleet.ups) == (3, 1)


@settings(max_examples=40, deadline=None)
@given(st.lists(LOADS, min_size=2, max_size=12), st.integers(1, 60), st.sets(st.integers(0, 11)))
def test_random_loads_that_never_reach_the_added_ones_add_one_beyond_the_sum(
    swings: list[list[int]], passes: int, restarts: set[int]
) -> None:
    """Whatever the loads do, how long each lasts, and however often another process takes over."""
    size = max(len(loads) for loads in swings)
    fleet, names = Fleet(*[0] * size, step=10), [f"store-{number}" for number in range(size)]
    most = size + 1
    for number, loads in enumerate(swings):
        fleet.used.update({name: load for name, load in zip(names, loads, strict=False) if name in fleet.used})
        most = max(most, -(-sum(fleet.used.values()) // 70))
        fleet.passes(passes)
        if number in restarts:
            fleet.restart()
        assert fleet.most <= most


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=10))
def test_random_loads_that_spread_always_get_what_they_need(swings: list[int]) -> None:
    fleet = Fleet(0)
    for load in swings:
        for _ in range(12):
            each, rest = divmod(load, len(fleet.used))
            fleet.used = {name: min(each + (number < rest), 100) for number, name in enumerate(fleet.used)}
            fleet.passes(1)
        assert len(fleet.used) * 77 >= load
        assert all(count < 90 for count in fleet.used.values())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=6))
def test_sessions_that_never_move_add_no_more_than_one_for_each_full_replica(used: list[int]) -> None:
    fleet = Fleet(*used, step=5)
    full = sum(count >= 90 for count in used)
    assert fleet.passes(60).most <= max(-(-sum(used) // 70), len(used) + full)
    fleet.used = {name: count // 10 for name, count in fleet.used.items()}
    assert fleet.run(310 + 10 * len(fleet.used)).desired <= len(used)


def test_after_an_hour_the_pools_may_have_changed_and_one_more_is_tried() -> None:
    fleet = Fleet(92, 15, step=10).run(400)
    assert (fleet.ups, fleet.desired, list(fleet.used)) == (1, 2, ["store-0", "store-1"])
    for load, seconds in ((69, 60), (92, 60)):
        fleet.used["store-0"] = load
        fleet.run(seconds)
    assert fleet.ups == 1
    fleet.used["store-0"] = 69
    fleet.run(RETRY_SECONDS)
    fleet.used["store-0"] = 92
    assert fleet.run(60).ups == 2


def test_a_full_replica_that_stays_full_is_not_tried_again() -> None:
    assert Fleet(92, 15, step=10).run(3 * RETRY_SECONDS).ups == 1


def test_an_added_replica_that_has_its_share_lets_another_full_one_ask() -> None:
    fleet = Fleet(92, 20).passes(5)
    fleet.used = {"store-0": 60, "store-1": 20, "added-1": 30}
    fleet.passes(5)
    fleet.used["store-1"] = 92
    assert fleet.passes(5).desired == 4


def test_while_the_added_one_is_being_copied_its_window_does_not_throw_it_away() -> None:
    """A copy takes longer than the window, and the sum alone would ask for fewer all that time."""
    fleet = Fleet(92, 15, lead=1200).run(1100)
    assert (fleet.desired, fleet.ups, fleet.made) == (3, 1, 0)
    assert fleet.goal.reason is Reason.WITHIN_TOLERANCE, "nothing was added yet"
    fleet.run(130)
    assert len(fleet.used) == 3
    fleet.used["store-1"] = fleet.used["added-1"] = 45
    assert fleet.run(10).goal.reason is Reason.WITHIN_TOLERANCE
    assert fleet.run(60).goal.message.startswith("store-0 stays at 92% although another replica was added for it")


def test_one_that_is_not_full_any_more_before_the_other_comes_gives_it_up() -> None:
    fleet = Fleet(92, 15, lead=1200).run(100)
    fleet.used["store-0"] = 60
    fleet.run(310)
    assert (fleet.desired, fleet.made) == (2, 0)
    assert fleet.growth.asked == {}
    fleet.used["store-0"] = 92
    assert fleet.run(10).desired == 3


def test_nothing_is_said_to_be_added_before_it_serves() -> None:
    fleet = Fleet(92, lead=600).run(590)
    assert (fleet.desired, fleet.goal.reason) == (2, Reason.WITHIN_TOLERANCE)
    assert fleet.run(40).goal.reason is Reason.WITHIN_TOLERANCE
    assert fleet.run(60).goal.reason is Reason.NO_GAIN_FROM_MORE_REPLICAS


def test_a_full_replica_beside_an_empty_one_is_said_although_none_was_added_for_it() -> None:
    fleet = Fleet(92, 4).passes(59)
    assert (fleet.desired, fleet.goal.reason) == (2, Reason.WITHIN_TOLERANCE)
    fleet.passes(10)
    assert fleet.goal.reason is Reason.NO_GAIN_FROM_MORE_REPLICAS
    assert fleet.goal.message.startswith("store-0 stays at 92% although store-1 beside it has 4 sessions: pooled")
    fleet.used["store-0"] = 80
    fleet.passes(1)
    fleet.used["store-0"] = 92
    assert fleet.passes(59).goal.reason is Reason.WITHIN_TOLERANCE, "it was not full all the time"


def test_a_replica_that_is_not_ready_is_empty_for_another_reason() -> None:
    fleet = Fleet(92, 0)
    fleet.unready = {"store-1"}
    assert fleet.passes(200).most == 3


def test_a_new_process_knows_for_whom_another_was_added_and_looks_at_it_again() -> None:
    fleet = Fleet(92, 15).passes(70)
    fleet.used["store-1"] = fleet.used["added-1"] = 45
    fleet.restart().passes(1)
    assert fleet.ups == 1
    assert fleet.goal.reason is Reason.NO_GAIN_FROM_MORE_REPLICAS
    fleet.used["store-0"] = 60
    assert fleet.passes(2).growth.asked == {}


def test_a_new_process_waits_for_one_that_is_still_being_copied() -> None:
    fleet = Fleet(92, 15, lead=900).run(300).restart().run(500)
    assert (fleet.desired, fleet.ups, fleet.made) == (3, 1, 0)
    assert fleet.growth.asked == {"store-0": Addition(0.0, 3)}
    assert fleet.run(120).growth.asked["store-0"].came_at == 900.0


def test_who_no_longer_serves_is_forgotten_and_who_could_not_be_read_is_not() -> None:
    full = Connections(92, 92, 100, "store-0")
    growth = Growth().observe([full], ["store-0"], TARGET, 0.0, count=1, desired=1).record_asked(["store-0"], 2, 0.0)
    unread = growth.observe([None], ["store-0"], TARGET, 1.0, count=2, desired=2)
    assert unread.asked == {"store-0": Addition(0.0, 2, 1.0)}
    assert unread.full == {"store-0": 0.0}
    gone = growth.observe([], [], TARGET, 1.0, count=0, desired=2)
    assert (gone.asked, gone.full) == ({}, {})


def test_no_share_is_seen_while_one_could_not_be_read() -> None:
    growth = Growth().record_asked(["store-0"], 3, 0.0)
    readings = [Connections(40, 0, 100, "store-0"), Connections(40, 0, 100, "store-1"), None]
    names = ["store-0", "store-1", "store-2"]
    growth = growth.observe(readings, names, TARGET, 1.0, count=3, desired=3)
    assert not growth.asked["store-0"].has_share
    readings[2] = Connections(40, 0, 100, "store-2")
    assert growth.observe(readings, names, TARGET, 2.0, count=3, desired=3).asked == {}


def test_a_count_of_sessions_that_stands_still_is_said_and_holds_nothing() -> None:
    fleet = Fleet(50, 50).passes(59)
    assert fleet.goal.notes == ()
    fleet.passes(10)
    [note] = fleet.goal.notes
    assert note.reason is Reason.SIGNAL_AT_LIMIT
    assert note.message.startswith("exactly 100 sessions for 60 s")
    fleet.used["store-0"] = 51
    assert fleet.passes(1).goal.notes == ()


def test_sessions_that_idle_are_no_pool_at_its_limit() -> None:
    fleet = Fleet(30, 30)
    fleet.active = 20
    assert fleet.passes(90).goal.notes == ()


def test_a_replica_that_could_not_be_counted_has_no_exact_number() -> None:
    estimate = replace(Connections(100, 100, 100, "store-0"), is_estimate=True)
    growth = Growth()
    for second in range(90):
        growth = growth.observe([estimate], ["store-0"], TARGET, float(second), count=1, desired=1)
    assert growth.find_plateau(90.0) is None
    assert growth.full == {"store-0": 0.0}
