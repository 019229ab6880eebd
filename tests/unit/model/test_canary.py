"""The canary's window: what is kept of rounds, and the worst commit of a span."""

from headroom.model.canary import KEPT, CanaryWindow
from headroom.model.database import Lsn, Mark


def mark(at: float, seconds: float | None) -> Mark:
    return Mark(at, Lsn(int(at)), seconds, 1, "7")


def window(*rounds: tuple[float, float | None], is_void: bool = False) -> CanaryWindow:
    made = CanaryWindow()
    for at, seconds in rounds:
        made = made.begin(at).answer(mark(at, seconds), is_void=is_void)
    return made


def test_the_worst_commit_of_a_span_is_the_sample() -> None:
    made = window((1.0, 0.1), (2.0, 0.9), (6.0, 0.2))
    assert made.worst_since(0.0, 6.0) == 0.9
    assert made.worst_since(2.0, 6.0) == 0.2
    assert made.worst_since(6.0, 7.0) is None


def test_a_round_that_waits_counts_at_its_age() -> None:
    made = window((1.0, 0.1)).begin(2.0)
    assert made.pending_age(5.0) == 3.0
    assert made.worst_since(0.0, 5.0) == 3.0
    assert made.worst_since(4.0, 5.0) == 3.0
    assert made.drop().worst_since(4.0, 5.0) is None


def test_a_round_that_was_given_up_counts_at_its_age_once() -> None:
    made = CanaryWindow().begin(2.0).fail(12.0)
    assert made.worst_since(11.0, 13.0) == 10.0
    assert made.worst_since(12.0, 13.0) is None
    assert made.fail(20.0) == made, "nothing was pending"


def test_a_void_round_is_a_mark_and_no_commit() -> None:
    made = window((1.0, 0.5), is_void=True)
    assert len(made.marks) == 1
    assert made.worst_since(0.0, 2.0) is None


def test_a_position_is_a_mark_and_no_commit() -> None:
    assert window((1.0, None)).worst_since(0.0, 2.0) is None


def test_two_minutes_are_kept_and_no_more_than_so_many() -> None:
    made = window(*((float(second), 0.1) for second in range(400)))
    assert made.marks[0].taken_at == made.commits[0].ended_at == 279.0
    fast = window(*((number / 100, 0.1) for number in range(2 * KEPT)))
    assert len(fast.marks) == len(fast.commits) == KEPT
