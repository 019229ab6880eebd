"""The policy in the world: it is the operator's own, sees what a probe tells, and its runs can be repeated."""

from dataclasses import replace
from itertools import pairwise

import pytest

from headroom.model.conditions import Finding
from headroom.model.queue import QueueSample
from headroom.policy.workerpool import PoolFacts, Rule
from headroom.reasons import Reason
from headroom.simulation.run import count_reversals, headroom_for, make_world, optimum_seconds, play, play_headroom
from headroom.simulation.sampling import Sampler
from headroom.simulation.scalers import Headroom
from headroom.simulation.shapes import Counting
from headroom.simulation.traps import BY_NAME, SHAPES
from headroom.simulation.world import World
from tests.unit.simulation.make import Script, make_batch, make_case, make_shape

STEADY = make_shape(rate=4, duration=400, start_workers=6)


def samples_of(scaler: Headroom) -> list[QueueSample]:
    return [step.facts.sample for step in scaler.steps if step.facts.sample is not None]


def test_a_run_can_be_repeated() -> None:
    case = make_case(STEADY)
    assert play_headroom(case)[0] == play_headroom(case)[0]
    assert play_headroom(case)[0] != play_headroom(replace(case, seed=2))[0]


def test_each_pass_makes_one_sample_and_the_next_one_is_due_after_the_pause_of_the_decision() -> None:
    _, scaler, _ = play_headroom(make_case(STEADY))
    for step, following in pairwise(scaler.steps):
        assert following.at - step.at == pytest.approx(step.decision.pause_seconds)
        assert step.facts.sample is not None
        assert step.facts.sample.taken_at == step.at


def test_the_counts_of_samples_add_up() -> None:
    _, scaler, world = play_headroom(make_case(STEADY))
    for sample in samples_of(scaler):
        assert sample.arrived is not None
        assert sample.ended is not None
        assert sample.in_flight is not None
        assert sample.arrived - sample.ended == sample.backlog + sample.in_flight
    assert world.tally.arrived == pytest.approx(1600, rel=0.1)


def test_a_count_that_is_written_is_remembered_as_ours_and_followed() -> None:
    shape = make_shape(batches=make_batch(200, at=50), duration=300)
    figures, scaler, world = play_headroom(make_case(shape))
    assert figures.changes > 0
    assert [move.after for move in scaler.memory.moves] == [after for _, _, after in world.deployment.bill.changes]
    assert all(step.decision.sizing is not None for step in scaler.steps)
    assert figures.highest_workers > 1


@pytest.mark.parametrize(
    ("counting", "ended", "in_flight"),
    [(Counting.EVENTS, True, True), (Counting.DELETED, False, True), (Counting.TWO_NUMBERS, False, False)],
)
def test_a_source_tells_what_it_can_count(counting: Counting, ended: bool, in_flight: bool) -> None:
    _, scaler, _ = play_headroom(make_case(replace(STEADY, duration=60, counting=counting)))
    last = samples_of(scaler)[-1]
    assert ((last.ended is not None), (last.in_flight is not None)) == (ended, in_flight)
    assert last.hides_completions is (counting is Counting.DELETED)


def test_while_the_queue_cannot_be_read_the_count_stays_and_decisions_go_on_afterwards() -> None:
    gap = Finding(Reason.QUERY_TIMEOUT, "the probe timed out")

    def blind(world: World, facts: PoolFacts) -> PoolFacts:
        return replace(facts, signal=gap) if 200 <= world.now < 400 else facts

    shape = make_shape(rate=4, duration=700, start_workers=6, batches=make_batch(2000, at=210))
    case = make_case(shape)
    scaler, world = headroom_for(case), make_world(case)
    scaler.change_facts = blind
    play(case, scaler, world)
    changes = [at for at, _, _ in world.deployment.bill.changes]
    assert not [at for at in changes if 200.1 < at < 400]
    assert [at for at in changes if 400 <= at < 410]
    held = [step for step in scaler.steps if 200 <= step.at < 400]
    assert all(step.decision.sizing.decision.limit is Rule.STALE_SIGNAL for step in held if step.decision.sizing)


def test_arrivals_make_the_next_pass_due_where_the_library_notifies() -> None:
    shape = make_shape(batches=make_batch(40, at=101), duration=110)
    _, scaler, _ = play_headroom(make_case(shape, is_notified=True))
    times = [step.at for step in scaler.steps if step.at > 96]
    assert times[:2] == [100, 101]
    assert all(after - before >= 0.499 for before, after in pairwise(times))


def test_a_script_sets_its_counts_and_is_billed_for_them() -> None:
    case = make_case(make_shape(duration=100, start_workers=2), start_delay_seconds=0.0)
    figures = play(case, Script([(50, 4), (60, 3)]))
    assert (figures.changes, figures.highest_workers) == (2, 4)
    assert figures.worker_seconds == pytest.approx(100 + 40 + 120, abs=1)
    assert figures.reversals_per_hour == 36


def test_a_script_observes_what_each_count_does() -> None:
    shape = make_shape(rate=30, duration=300, start_workers=5, job_seconds=0.9, locked_seconds=0.1)
    script = Script([(150, 20)], Sampler(Counting.EVENTS, 30.0), every_seconds=10)
    play(make_case(shape), script)
    assert [facts.sample.taken_at for facts in script.seen if facts.sample][:3] == [0, 10, 20]
    ended = {facts.sample.taken_at: facts.sample.ended for facts in script.seen if facts.sample}
    few, many = ((ended[until] or 0) - (ended[since] or 0) for since, until in ((40, 140), (190, 290)))
    # Five workers do 5/s, and the lock lets through 10/s at most.
    assert few / 100 == pytest.approx(5, rel=0.15)
    assert many / 100 == pytest.approx(10, rel=0.05)
    waits = script.seen[-1].waits
    assert waits is not None
    assert waits.lock_waiters >= 8


def test_reversals_are_changes_of_direction() -> None:
    assert count_reversals([(0, 1, 5), (1, 5, 8), (2, 8, 4), (3, 4, 9)]) == 2
    assert count_reversals([]) == 0


def test_work_that_is_left_at_the_end_is_billed() -> None:
    shape = make_shape(batches=make_batch(50, at=90), duration=100, job_seconds=2.0, is_constant=True)
    figures = play(make_case(shape), Script([]))
    assert figures.worker_seconds == pytest.approx(100 + (50 - 5) * 2, abs=3)


def test_connections_of_a_guard_cap_the_workers() -> None:
    shape = make_shape(
        batches=make_batch(2000, at=50), duration=300, connections=7, options={"databaseRef": {"name": "store"}}
    )
    figures, _, _ = play_headroom(make_case(shape))
    assert figures.highest_workers == 7


def test_every_shape_has_a_name_of_its_own_and_begins_to_be_measured_before_its_end() -> None:
    assert len(BY_NAME) == len(SHAPES)
    for shape in SHAPES:
        assert shape.measured_from < shape.duration
        assert all(shape.rate(at) <= shape.highest_rate + 1e-9 for at in range(0, int(shape.duration), 60))


def test_the_reference_is_cheaper_than_any_run_that_is_in_time() -> None:
    case = make_case(make_shape(rate=5, duration=900, start_workers=7, batches=make_batch(100, at=300)))
    figures, _, _ = play_headroom(case)
    assert figures.late_seconds < 10
    assert figures.worker_seconds > 0.98 * optimum_seconds(case)
