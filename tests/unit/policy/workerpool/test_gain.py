"""Two windows and the gain between them: the figures, their interval, and what makes a pair say nothing."""

import math
import random

import pytest

from headroom.policy.workerpool.gain import GainVerdict, decide_gain, is_comparable, is_decidable, measure_gain
from headroom.policy.workerpool.gain_window import NOWHERE, DatabaseLoad, GainWindow, Piece, estimate_dispersion


def window(
    workers: int, rate: float, *, pieces: int = 20, failing: float = 0.0, database_load: DatabaseLoad = NOWHERE
) -> GainWindow:
    """A window of even pieces of five seconds."""
    ended = round(rate * 5)
    piece = Piece(5.0, ended, round(failing * ended), 5.0 * workers)
    return GainWindow(workers, database_load, 100.0, (piece,) * pieces)


@pytest.mark.parametrize(
    ("after", "gain"), [(32.0, 1.0), (24.0, 0.5), (16.0, 0.0), (12.0, -0.25)], ids=["linear", "half", "none", "less"]
)
def test_the_gain_of_twice_the_workers(after: float, gain: float) -> None:
    found = measure_gain(window(15, 16.0), window(30, after))
    assert found is not None
    assert found.value == pytest.approx(gain)
    assert found.low < found.value < found.high


def test_the_gain_is_relative_to_the_step() -> None:
    """Six workers of ten that add a half do five sixths of what a linear step does."""
    found = measure_gain(window(10, 20.0), window(16, 30.0))
    assert found is not None
    assert found.value == pytest.approx(0.5 / 0.6)


def test_more_jobs_make_the_interval_narrower_and_clumps_wider() -> None:
    def width(fewer: GainWindow, more: GainWindow) -> float:
        found = measure_gain(fewer, more)
        assert found is not None
        return found.high - found.low

    short = width(window(10, 20.0, pieces=4), window(20, 20.0, pieces=4))
    assert width(window(10, 20.0, pieces=40), window(20, 20.0, pieces=40)) < 0.6 * short
    clumps = tuple(Piece(5.0, count, 0, 50.0) for count in (20, 180, 20, 180))
    clumped = GainWindow(10, NOWHERE, 100.0, clumps)
    assert width(clumped, window(20, 20.0, pieces=4)) > 2 * short


def test_poisson_counts_have_a_dispersion_of_about_one() -> None:
    chance = random.Random(7)
    counts = [sum(chance.random() < 0.1 for _ in range(1000)) for _ in range(60)]
    even = GainWindow(10, NOWHERE, 0.0, tuple(Piece(5.0, count, 0, 50.0) for count in counts))
    assert 1.0 <= estimate_dispersion(even) < 1.8
    sparse = [10 * sum(chance.random() < 0.01 for _ in range(1000)) for _ in range(60)]
    clumped = GainWindow(10, NOWHERE, 0.0, tuple(Piece(5.0, count, 0, 50.0) for count in sparse))
    assert 6.0 < estimate_dispersion(clumped) < 18.0


def test_a_slow_wave_counts_as_dispersion() -> None:
    """Twenty slow and twenty quick seconds in turn: the pieces beside each other look even."""
    wave = tuple(Piece(5.0, 120 if index // 4 % 2 else 80, 0, 50.0) for index in range(32))
    assert estimate_dispersion(GainWindow(10, NOWHERE, 0.0, wave)) > 12.0


def test_no_gain_needs_a_hundred_jobs_in_each_window() -> None:
    fewer = window(15, 16.0, pieces=20)
    assert decide_gain(fewer, window(30, 16.0, pieces=20), 0.1)[0] is GainVerdict.NO_GAIN
    assert decide_gain(fewer, window(30, 16.0, pieces=2), 0.1)[0] is None, "two pieces show no variance"
    few = window(15, 2.4, pieces=4)
    assert few.ended == 48
    assert decide_gain(few, window(30, 2.4, pieces=60), 0.1)[0] is None, "48 jobs are not 100"


def test_a_gain_is_clear_with_fewer_jobs() -> None:
    fewer, more = window(2, 2.0, pieces=4), window(8, 8.0, pieces=1)
    assert more.ended == 40
    assert decide_gain(fewer, more, 0.1)[0] is GainVerdict.GAIN


def test_in_between_it_is_measured_on() -> None:
    assert decide_gain(window(10, 10.0, pieces=5), window(20, 12.0, pieces=5), 0.1)[0] is None


def test_what_counts_as_a_gain_is_up_to_the_spec() -> None:
    fewer, more = window(10, 40.0, pieces=60), window(20, 52.0, pieces=60)
    assert decide_gain(fewer, more, 0.1)[0] is GainVerdict.GAIN
    assert decide_gain(fewer, more, 0.4)[0] is GainVerdict.NO_GAIN


@pytest.mark.parametrize(
    "other",
    [
        window(30, 16.0, failing=0.3),
        window(30, 16.0, database_load=DatabaseLoad("Brownout")),
        window(30, 16.0, database_load=DatabaseLoad(None, 23)),
        window(15, 16.0),
    ],
    ids=["failures", "state", "others", "same count"],
)
def test_a_pair_from_two_worlds_says_nothing(other: GainWindow) -> None:
    base = window(15, 16.0, database_load=DatabaseLoad(None, 20))
    assert not is_comparable(base, other)
    assert decide_gain(base, other, 0.1)[0] is None


def test_small_differences_of_the_find_load_do_not_matter() -> None:
    base = window(15, 16.0, failing=0.05, database_load=DatabaseLoad("Healthy", 20))
    assert is_comparable(base, window(30, 16.0, failing=0.12, database_load=DatabaseLoad("Healthy", 22)))
    assert is_comparable(base, window(30, 16.0, database_load=DatabaseLoad("Healthy")))


def test_a_window_begins_again_when_the_rate_changes() -> None:
    steady = GainWindow(10, NOWHERE, 0.0)
    for index in range(20):
        steady = steady.add(5.0 * index, Piece(5.0, 100, 0, 50.0))
    assert len(steady.pieces) == 20
    slow = steady.add(105.0, Piece(5.0, 20, 0, 50.0))
    assert (len(slow.pieces), slow.rate) == (1, 4.0)
    assert len(steady.add(105.0, Piece(5.0, 110, 0, 50.0)).pieces) == 21, "chance is no change"


def test_samples_of_a_second_are_joined_to_pieces() -> None:
    found = GainWindow(10, NOWHERE, 0.0)
    for second in range(12):
        found = found.add(float(second), Piece(1.0, 20, 1, 10.0))
    assert [piece.seconds for piece in found.pieces] == [5.0, 5.0, 2.0]
    assert (found.rate, found.failing, found.slot_rate) == pytest.approx((20.0, 0.05, 2.0))


def test_a_window_forgets_what_is_older_than_five_minutes() -> None:
    found = GainWindow(10, NOWHERE, 0.0)
    for index in range(200):
        found = found.add(5.0 * index, Piece(5.0, 100, 0, 50.0))
    assert found.seconds == pytest.approx(300, abs=5)


def test_a_base_of_too_few_jobs_or_too_near_never_decides() -> None:
    assert is_decidable(window(15, 16.0), window(30, 16.0))
    assert not is_decidable(window(15, 2.4, pieces=4), window(30, 16.0)), "48 jobs"
    assert not is_decidable(window(15, 16.0), window(17, 16.0)), "a step of an eighth"


def test_idle_moments_are_not_counted_against_a_window() -> None:
    """A slot that waits for its next item for a moment could have done more."""
    half_idle = GainWindow(10, NOWHERE, 0.0, (Piece(5.0, 45, 0, 45.0),) * 20)
    found = measure_gain(half_idle, window(20, 20.0))
    assert found is not None
    assert found.value == pytest.approx(1.0)
    assert not math.isnan(found.below_linear)
