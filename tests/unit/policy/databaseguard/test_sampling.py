"""From observations to samples: what counts, for how long, and what a gap forgets."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.canary import CanaryWindow
from headroom.model.conditions import Finding
from headroom.policy.databaseguard.facts import GuardFacts, Observation, ServerMemory
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.sampling import ANSWERED_LATELY_SECONDS, SAMPLE_SECONDS, measure_server
from headroom.policy.databaseguard.signals import Measurements
from tests.unit.policy.databaseguard.make import SERVER, TIMEOUT, UNREACHABLE, make_counts, make_mark, make_spec

SPEC = make_spec(cores=4)


def observe(memory: ServerMemory, now: float, problem: Finding | None = None, **changes: Any) -> ServerMemory:
    counts = {name: changes.pop(name) for name in ("used", "active", "lock_waiters") if name in changes}
    found = Observation(now, SERVER, make_counts(**counts), changes.pop("window", CanaryWindow()))
    spec = changes.pop("spec", SPEC)
    facts = GuardFacts("store", problem=problem, server=SERVER, observation=None if problem else found, **changes)
    return measure_server(memory, spec, facts, problem, now)


def window(*commits: tuple[float, float]) -> CanaryWindow:
    made = CanaryWindow()
    for at, seconds in commits:
        made = made.answer(make_mark(at, seconds), is_void=False)
    return made


def test_a_sample_is_the_worst_of_its_five_seconds() -> None:
    memory = ServerMemory(has_had_state=True)
    for second, waiters in enumerate((0, 7, 3, 1, 2), start=1):
        memory = observe(memory, float(second), lock_waiters=waiters)
    assert memory.state.sample.lock_waiters == 7
    assert memory.sampled_at == 5.0
    assert memory.worst == Measurements()


def test_the_first_sample_is_whole_with_the_first_mark() -> None:
    memory = observe(ServerMemory(), 1.0)
    assert not memory.has_had_state
    memory = observe(memory, 1.5, window=window((1.4, 0.01)))
    assert memory.has_had_state
    assert memory.sampled_at == 1.5
    assert memory.state.sample.commit_seconds == 0.01


def test_without_a_mark_the_first_sample_takes_its_time() -> None:
    memory = ServerMemory()
    for second in (1.0, 2.0, 3.0, 4.0):
        memory = observe(memory, second)
        assert not memory.has_had_state
    assert observe(memory, SAMPLE_SECONDS).has_had_state


def test_each_commit_counts_in_one_sample_only() -> None:
    rounds = window((3.0, 4.0), (8.0, 0.01))
    memory = observe(ServerMemory(has_had_state=True), 5.0, window=rounds)
    assert memory.state.sample.commit_seconds == 4.0
    assert observe(memory, 10.0, window=rounds).state.sample.commit_seconds == 0.01


def test_a_commit_that_waits_counts_in_every_sample_until_it_is_answered() -> None:
    waiting = CanaryWindow().begin(2.0)
    memory = ServerMemory(has_had_state=True)
    ages = []
    for now in (5.0, 10.0, 15.0):
        memory = observe(memory, now, window=waiting)
        ages.append(memory.state.sample.commit_seconds)
    assert ages == [3.0, 8.0, 13.0]


def test_commits_of_a_server_that_could_not_be_used_do_not_count() -> None:
    memory = observe(ServerMemory(has_had_state=True), 5.0, UNREACHABLE, window=window((4.0, 9.0)))
    assert memory.state.sample.commit_seconds is None
    assert memory.state.level is None


@pytest.mark.parametrize(
    ("problem", "age", "is_drowning"),
    [
        (TIMEOUT, 10.0, True),
        (TIMEOUT, ANSWERED_LATELY_SECONDS - 1, True),
        (TIMEOUT, ANSWERED_LATELY_SECONDS, False),
        (UNREACHABLE, 10.0, False),
    ],
)
def test_missed_deadlines_are_load_if_the_server_answered_lately(
    problem: Finding, age: float, is_drowning: bool
) -> None:
    memory = observe(ServerMemory(has_had_state=True), 5.0)
    assert memory.answered_at == 5.0
    assert observe(memory, 5.0 + age, problem).state.sample.is_drowning is is_drowning


def test_a_server_that_cannot_be_used_leaves_what_was_counted() -> None:
    memory = observe(ServerMemory(has_had_state=True), 5.0, used=40)
    after = observe(memory, 6.0, UNREACHABLE)
    assert (after.counts, after.budget, after.answered_at) == (memory.counts, memory.budget, 5.0)


def test_an_invalid_spec_measures_nothing() -> None:
    facts = GuardFacts("store", problem=UNREACHABLE)
    memory = measure_server(ServerMemory(has_had_state=True), None, facts, UNREACHABLE, 9.0)
    assert memory.state.sample == Measurements()
    assert memory.budget is None


def test_spans_begin_at_multiples_of_five_seconds_whenever_a_guard_began() -> None:
    ends = []
    for began in (0.0, 3.2):
        memory, now, sampled = ServerMemory(has_had_state=True, sampled_at=began), began, []
        while now < 60:
            now += 0.9
            memory = observe(memory, now)
            sampled.append(memory.sampled_at)
        ends.append({int(at // SAMPLE_SECONDS) for at in sampled if at > 10})
    assert ends[0] == ends[1] == set(range(2, 13))


def test_a_late_pass_is_not_followed_by_a_sample_of_a_moment() -> None:
    memory = observe(ServerMemory(has_had_state=True, sampled_at=5.0), 14.9, lock_waiters=9)
    assert memory.sampled_at == 14.9
    memory = observe(memory, 15.9, lock_waiters=1)
    assert memory.sampled_at == 14.9
    assert observe(memory, 20.1).state.sample.lock_waiters == 1


def test_without_a_canary_of_its_own_no_commit_counts() -> None:
    spec = make_spec(canary={"enabled": False})
    memory = observe(ServerMemory(has_had_state=True), 5.0, window=window((3.0, 4.0)), spec=spec)
    assert memory.sampled_at == 5.0
    assert memory.state.sample.commit_seconds is None


def test_connections_are_measured_against_the_largest_reserve_of_the_namespace() -> None:
    memory = observe(ServerMemory(has_had_state=True), 5.0, used=40, limits={"b": ConnectionLimits(60, 17)})
    assert memory.state.sample.connections_percent == 50.0


@given(
    st.lists(
        st.tuples(st.floats(0.1, 5.0), st.integers(0, 60), st.sampled_from([None, UNREACHABLE, TIMEOUT])), max_size=40
    )
)
def test_samples_never_overlap_and_each_ends_in_a_span_of_its_own(
    passes: list[tuple[float, int, Finding | None]],
) -> None:
    memory, now, ends = ServerMemory(has_had_state=True), 0.0, [0.0]
    for pause, waiters, problem in passes:
        now += pause
        before = memory.sampled_at
        memory = observe(memory, now, problem, lock_waiters=waiters)
        if memory.sampled_at != before:
            ends.append(memory.sampled_at)
            assert memory.state.sampled_at == now
        assert memory.has_had_state
        assert (memory.counts is None) == (memory.budget is None)
    assert all(later - earlier >= SAMPLE_SECONDS / 2 for earlier, later in pairwise(ends))
    assert all(later // SAMPLE_SECONDS > earlier // SAMPLE_SECONDS for earlier, later in pairwise(ends))
