"""Answers that come back out of order, and clocks that disagree: no count moves for either."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool import PoolMemory, decide
from tests.unit.policy.workerpool.make import KNOWN, NOW, make_facts, make_sample, make_spec, moment, scaling_of


def sample_at(second: float, rate: float = 2.0) -> QueueSample:
    count = round(rate * second)
    return make_sample(NOW + second, arrived=count, ended=count, in_flight=2)


def after(samples: list[QueueSample]) -> PoolMemory:
    memory = KNOWN
    for sample in samples:
        at = moment(max(sample.taken_at, NOW))
        memory = decide(make_spec(), make_facts(3, signal=sample), memory, at).memory
    return memory


def test_an_answer_to_an_earlier_question_changes_nothing() -> None:
    """The earlier one was taken while 6,000 items waited; the later one, which came first, says that they are gone."""
    memory = after([sample_at(5.0 * step) for step in range(20)])
    early = replace(sample_at(93.0), lag_seconds=500.0, backlog=6000, late=6000)
    outcome = decide(make_spec(), make_facts(3, signal=early), memory, moment(NOW + 100))
    assert scaling_of(outcome.decision).allowed == 3
    assert outcome.memory.lateness is None
    assert not outcome.memory.is_late
    assert outcome.decision.sample == memory.window[-1].sample


@given(order=st.permutations(range(20)))
def test_rates_do_not_depend_on_the_order_of_answers(order: list[int]) -> None:
    memory = after([sample_at(5.0 * step) for step in order] + [sample_at(100.0 + 5.0 * step) for step in range(20)])
    outcome = decide(make_spec(), make_facts(3, signal=sample_at(200.0)), memory, moment(NOW + 200))
    assert outcome.decision.sizing is not None
    arrivals = outcome.decision.sizing.estimates.arrivals_per_second
    assert arrivals is not None
    assert 1.8 <= arrivals <= 2.2
    times = [seen.sample.taken_at for seen in outcome.memory.window]
    assert times == sorted(times)
