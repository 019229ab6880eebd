"""How old the data of a member may be, and since when it is refused: what ages them, what pauses, and what ends it."""

from typing import Any

import pytest

from headroom.policy.replicaset.facts import Silence
from headroom.policy.replicaset.replay_lag import LagUnknown, NotEligible, is_bounded
from tests.unit.policy.replicaset.make import BOUNDS, answer, make_mark
from tests.unit.policy.replicaset.passes import Passes, late


def test_a_refusal_is_timed_for_as_long_as_its_reason_stays() -> None:
    passes = Passes()
    passes.broken(count=5)
    assert passes.known.refused_seconds(passes.at) == 5
    passes.answer(timeline=2)
    assert isinstance(passes.known.readings.lag, NotEligible)
    assert passes.known.refused_seconds(passes.at) == 1
    passes.answer()
    assert passes.known.refused_seconds(passes.at) == 0


def age_of(passes: Passes) -> float:
    """As of the last pass."""
    return passes.known.readings.age.counted


def test_without_a_stream_the_age_grows_from_the_lag_before() -> None:
    passes = Passes()
    passes.answer()
    passes.answer(count=8, lsn=400)
    lagged = passes.known.readings.chain
    assert lagged is not None
    assert (lagged.seconds, lagged.is_bounded) == (7, False)
    passes.broken(count=3)
    assert (age_of(passes), passes.known.refused_seconds(passes.at)) == (10, 3)
    passes.answer(timeline=2)
    assert (age_of(passes), passes.known.refused_seconds(passes.at)) == (11, 1)
    passes.answer()
    assert age_of(passes) == 0


@pytest.mark.parametrize("unknown", ["answer", "silence", "late", "unasked"])
@pytest.mark.parametrize(
    "changes", [{"is_streaming": False, "timeline": None}, {"timeline": 2}], ids=["cut off", "old"]
)
def test_a_pass_without_the_primary_neither_ends_a_count_nor_adds_to_it(changes: Any, unknown: str) -> None:
    passes = Passes()
    passes.answer()
    for _ in range(5):
        passes.answer(count=4, **changes)
        reading = {"answer": answer(passes.at, **changes), "late": late(passes.at - 0.8, **changes), "unasked": None}
        before = age_of(passes)
        passes.make(reading.get(unknown, Silence("refused")), is_blind=True)
        assert age_of(passes) == before, "an outage is no age"
    assert age_of(passes) == passes.known.refused_seconds(passes.at) == 5 * 4 - 1, "from the first pass that saw it"
    assert passes.known.stream.broken_seconds == (0 if changes["timeline"] else 5 * 4)
    passes.answer()
    assert (age_of(passes), passes.known.refused_seconds(passes.at)) == (0, 0)


def test_a_lag_that_may_be_more_ends_the_refusal_and_makes_no_data_younger() -> None:
    """As of a receiver that connects again and again, and a server that replays nothing of it."""
    passes = Passes()
    passes.answer()
    for _ in range(5):
        passes.broken(count=3)
        far = make_mark(passes.at, 900)
        passes.known = passes.known.observe(answer(passes.at), (far,), BOUNDS, passes.at)
        passes.at += 1
        assert not is_bounded(passes.known.readings.lag)
        assert passes.known.refused_seconds(passes.at) == 0
    assert age_of(passes) == 5 * 4 - 1
    passes.answer(lsn=900)
    assert age_of(passes) == 0


def test_neither_a_silent_primary_nor_a_lost_stream_makes_the_data_younger() -> None:
    passes = Passes()
    passes.answer(count=2)
    passes.answer(count=8, lsn=400)
    passes.answer(count=3, is_blind=True, lsn=400)
    passes.broken(count=2)
    readings = passes.known.readings
    assert readings.chain is not None
    assert (readings.chain.seconds, passes.known.unmeasured_seconds(passes.at - 1)) == (7, 5)


def test_without_a_primary_nothing_is_known_of_the_lag() -> None:
    readings = Passes().answer(is_blind=True).readings
    assert isinstance(readings.lag, LagUnknown)
    assert (readings.within, readings.beyond, readings.refusal) == (0, 0, None)
