"""How long a row of passes has seen a stream broken."""

from headroom.policy.replicaset.facts import Silence
from tests.unit.policy.replicaset.passes import Passes


def test_seconds_of_a_broken_stream_add_up() -> None:
    assert Passes().broken(count=31) == 30


def test_a_flash_of_a_connection_changes_nothing_and_a_stream_that_lasts_ends_it() -> None:
    passes = Passes()
    passes.broken(count=31)
    passes.answer(step=0.5)
    assert passes.broken() == 30.5
    passes.answer(count=6)
    assert passes.broken() == 1


def test_replay_of_what_is_there_begins_it_again() -> None:
    passes = Passes()
    passes.broken(count=31)
    assert passes.broken(lsn=501) == 0
    assert passes.broken(lsn=501, count=5) == 5


def test_while_the_primary_does_not_answer_nobody_is_blamed() -> None:
    passes = Passes()
    passes.broken(count=31)
    assert passes.answer(count=500, is_blind=True, is_streaming=False, timeline=None).stream.broken_seconds == 30
    assert passes.broken() == 31


def test_a_flash_before_and_one_after_a_silence_of_the_primary_are_no_stream_that_lasts() -> None:
    passes = Passes()
    passes.broken(count=31)
    passes.answer()
    passes.answer(count=9, is_blind=True, is_streaming=False, timeline=None)
    passes.answer()
    assert passes.broken() == 31


def test_silence_and_what_was_not_watched_are_not_counted() -> None:
    passes = Passes()
    passes.broken(count=31)
    for _ in range(500):
        passes.make(Silence())
    assert passes.known.stream.broken_seconds == 30
    assert passes.broken(step=3600) == 31
    assert passes.broken() == 41
