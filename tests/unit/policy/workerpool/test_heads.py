"""An item that the workers pass over is blocked and named: it scales nothing, and hides no item that does."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample, StuckItem, WaitingItem
from headroom.policy.workerpool import PoolMemory, decide
from headroom.policy.workerpool.constants import HEAD_HELD_SECONDS, HEAD_SAMPLES, PROBE_SECONDS
from headroom.policy.workerpool.heads import MOST_STUCK, HeadMemory, leave_out_stuck, watch_heads
from headroom.reasons import Reason
from tests.unit.policy.workerpool.make import KNOWN, NOW, make_facts, make_sample, make_spec, moment, scaling_of

TARGET = 30.0
POISON = 17


def see(*samples: QueueSample, memory: HeadMemory | None = None) -> HeadMemory:
    known = memory or HeadMemory()
    for sample in samples:
        known = watch_heads(known, sample)
    return known


def sample_of(turn: int, leading: Sequence[int], **numbers: Any) -> QueueSample:
    """A sample every second; each item has waited as long as its place says, oldest first."""
    eldest = tuple(WaitingItem(item, 1000.0 - item) for item in sorted(leading))
    given_numbers = {"lag_seconds": eldest[0].seconds if eldest else 0.0, "backlog": len(leading), **numbers}
    return make_sample(NOW + turn, leading=tuple(leading), eldest=eldest, **given_numbers)


def drained(turn: int, *, head: int = POISON, width: int = 20) -> QueueSample:
    """A head that stays, while the items behind it are taken at two a second."""
    return sample_of(turn, [head, *range(100 + 2 * turn, 100 + 2 * turn + width)], ended=2 * turn, in_flight=3)


def test_the_same_next_item_over_six_samples_while_others_are_taken_is_stuck() -> None:
    assert see(*(drained(turn) for turn in range(HEAD_SAMPLES - 1))).stuck == ()
    memory = see(*(drained(turn) for turn in range(HEAD_SAMPLES)))
    assert memory.stuck == (POISON,)
    cleaned = leave_out_stuck(drained(9), memory, TARGET)
    assert cleaned.lag_seconds == 1000.0 - 118
    assert (cleaned.backlog, cleaned.blocked, cleaned.blocked_seconds) == (20, 1, 1000.0 - POISON)
    assert cleaned.stuck == (StuckItem(POISON),)
    assert (cleaned.leading, cleaned.eldest) == ((), ()), "two hundred samples are kept"


def test_counts_are_proof_where_no_other_item_waits_at_the_moment_of_a_sample() -> None:
    alone = [sample_of(turn, [POISON], ended=turn, in_flight=0) for turn in range(HEAD_SAMPLES)]
    memory = see(*alone)
    assert memory.stuck == (POISON,)
    assert leave_out_stuck(alone[-1], memory, TARGET).lag_seconds == 0.0
    unknown = [sample_of(turn, [POISON], ended=None, in_flight=None) for turn in range(50)]
    assert see(*unknown).stuck == (), "nothing says that others are taken"


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param([sample_of(turn, [17, 18, 19], ended=7, in_flight=4) for turn in range(60)], id="all are busy"),
        pytest.param([sample_of(turn, [17, 18], ended=turn, in_flight=60 - turn) for turn in range(60)], id="going"),
        pytest.param([sample_of(turn, range(turn, 99), ended=turn) for turn in range(60)], id="each in turn"),
        pytest.param([sample_of(turn, [2 * turn + 40, 17], ended=2 * turn) for turn in range(60)], id="low priority"),
    ],
)
def test_an_item_that_only_waits_its_turn_is_not_stuck(samples: list[QueueSample]) -> None:
    assert see(*samples).stuck == ()


def test_one_after_the_other_is_found_and_left_out_until_it_is_gone() -> None:
    def sample(turn: int) -> QueueSample:
        return sample_of(turn, [3, 5, *range(100 + turn, 110 + turn)], ended=turn, in_flight=2)

    memory = see(*(sample(turn) for turn in range(3 * HEAD_SAMPLES)))
    assert memory.stuck == (3, 5)
    assert leave_out_stuck(sample(18), memory, TARGET).blocked == 2
    freed = sample_of(19, range(119, 129), ended=19, in_flight=2)
    assert watch_heads(memory, freed).stuck == ()


def test_an_item_out_of_the_list_of_the_next_is_still_left_out_while_it_is_among_the_eldest() -> None:
    memory = see(*(drained(turn) for turn in range(HEAD_SAMPLES)))
    urgent = list(range(500, 520))
    eldest = (WaitingItem(POISON, 900.0), WaitingItem(500, 4.0))
    sample = make_sample(NOW + 9, leading=tuple(urgent), eldest=eldest, lag_seconds=900.0, backlog=21, late=1)
    cleaned = leave_out_stuck(sample, watch_heads(memory, sample), TARGET)
    assert (cleaned.lag_seconds, cleaned.late, cleaned.backlog) == (4.0, 0, 20)


def test_an_answer_that_comes_late_proves_nothing_again() -> None:
    fresh = [drained(turn) for turn in range(HEAD_SAMPLES - 1)]
    memory = see(*fresh)
    assert see(fresh[0], fresh[0], fresh[2], memory=memory) == memory


def test_a_locked_row_is_named_once_it_is_not_a_moment() -> None:
    def sample(at: float) -> QueueSample:
        return make_sample(NOW + at, blocked=1, blocked_seconds=99.0, stuck=(StuckItem(8, 813),))

    memory = see(sample(0))
    assert leave_out_stuck(sample(0), memory, TARGET).stuck == ()
    assert leave_out_stuck(sample(HEAD_HELD_SECONDS), memory, TARGET).stuck == (StuckItem(8, 813),)
    moved = see(make_sample(NOW + 5, stuck=(StuckItem(9, 814),)), memory=memory)
    assert moved.held == ((9, NOW + 5),)


@given(
    items=st.lists(st.integers(1, 60), unique=True, max_size=20),
    stuck=st.lists(st.integers(1, 60), unique=True, max_size=9).map(tuple),
    late=st.integers(0, 30),
    backlog=st.integers(0, 30),
)
def test_nothing_that_waits_is_lost_or_counted_twice(
    items: list[int], stuck: tuple[int, ...], late: int, backlog: int
) -> None:
    sample = sample_of(1, items, late=late, backlog=max(backlog, len(items)))
    cleaned = leave_out_stuck(sample, HeadMemory(stuck), TARGET)
    assert cleaned.backlog + cleaned.blocked == sample.backlog + sample.blocked
    assert 0 <= cleaned.late <= sample.late
    assert 0 <= cleaned.lag_seconds <= sample.lag_seconds
    assert cleaned.lag_seconds == max((1000.0 - item for item in items if item not in stuck), default=0.0)
    assert len(cleaned.stuck) <= MOST_STUCK


def test_a_poison_head_keeps_no_workers_and_no_probes_a_second() -> None:
    """One row that nobody can take, 40 minutes old, beside eight jobs a second that five workers do."""
    spec, memory = make_spec(), KNOWN
    for turn in range(HEAD_SAMPLES + 60):
        count, at = 8 * turn, NOW + turn
        eldest = (WaitingItem(POISON, 2400.0 + turn), WaitingItem(1000 + count, 0.2))
        leading = (POISON, 1000 + count)
        sample = make_sample(
            at, lag_seconds=2400.0 + turn, backlog=2, late=1, in_flight=8, arrived=count, ended=count,
            leading=leading, eldest=eldest,
        )  # fmt: skip
        outcome = decide(spec, make_facts(9, signal=sample), memory, moment(at))
        memory = outcome.memory
    assert scaling_of(outcome.decision).wanted <= 20
    assert outcome.decision.pause_seconds == PROBE_SECONDS
    assert outcome.decision.keeping_up.reason is Reason.HEAD_OF_LINE_STUCK
    assert outcome.decision.signal.verdict.reason is Reason.HEAD_OF_LINE_STUCK
    assert outcome.decision.sample is not None
    assert outcome.decision.sample.stuck == (StuckItem(POISON),)


def test_what_is_kept_of_a_sample_has_no_lists() -> None:
    """A query of its author may name as many busy workers as a MiB holds, and ten minutes of samples are kept."""
    busy = frozenset({"mailer-1"})
    outcome = decide(make_spec(), make_facts(signal=replace(drained(1), busy_hosts=busy)), PoolMemory(), moment(NOW))
    kept = outcome.memory.window[-1].sample
    assert (kept.leading, kept.eldest, kept.busy_hosts) == ((), (), None)
    assert outcome.decision.sample is not None
    assert outcome.decision.sample.busy_hosts == busy
