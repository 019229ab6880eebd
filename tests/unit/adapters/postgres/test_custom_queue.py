"""What the user's own SQL may answer: ages, counts and counters, and what a person is told of the rest."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from headroom.adapters.postgres.queues.custom import EARLY_KEPT_SECONDS, MOST_ITEMS, CustomProbe
from headroom.api.v1alpha1.queue import CustomQueries
from headroom.errors import SignalUnavailable
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.reasons import Reason

NAMES = ("lagQuery", "backlogQuery", "inFlightQuery", "arrivalsQuery")


@dataclass
class Answers:
    """Answers each statement, which is its own name, with one value."""

    values: dict[str, Any]

    async def query(self, sql: str, parameters: object = None) -> list[dict[str, Any]]:
        return [{"value": self.values[sql]}]

    def open_probe(self) -> CustomProbe:
        return CustomProbe(CustomQueries.model_validate({name: name for name in NAMES}), self)


def answers(**values: Any) -> Answers:
    return Answers({"lagQuery": 3.5, "backlogQuery": 2, "inFlightQuery": 1, "arrivalsQuery": 7, **values})


async def ask(probe: CustomProbe, at: float = 0.0) -> QueueSample:
    return await probe.sample(QueueQuestion(at, 30.0, 10.0))


@pytest.mark.parametrize("age", [-0.00005, Decimal("-0.0003"), -0.3, -4.9, 0, Decimal(0)])
async def test_a_row_that_is_younger_than_its_statement_is_no_time_old(age: float | Decimal) -> None:
    """A row that is committed after the transaction began is a little younger; clocks differ by some milliseconds."""
    sample = await ask(answers(lagQuery=age).open_probe())
    assert (sample.lag_seconds, sample.backlog, sample.early_seconds) == (0.0, 2, 0.0)


async def test_a_clock_that_is_minutes_ahead_is_named_and_hides_nothing_else() -> None:
    queue = answers(lagQuery=-300)
    probe = queue.open_probe()
    assert (await ask(probe)).early_seconds == 300.0
    queue.values["lagQuery"] = -240
    sample = await ask(probe, 60.0)
    assert (sample.lag_seconds, sample.backlog, sample.early_seconds) == (0.0, 2, 300.0)
    queue.values["lagQuery"] = 0
    assert (await ask(probe, 120.0)).early_seconds == 300.0, "an empty queue says nothing of clocks"
    assert (await ask(probe, 61.0 + EARLY_KEPT_SECONDS)).early_seconds == 0.0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("backlogQuery", -1, "returned -1: a number of 0 or more"),
        ("arrivalsQuery", Decimal("-0.5"), "returned -1: a number of 0 or more"),
        ("inFlightQuery", 2**63, "returned 9.22337e+18: a count is at most 1e+15"),
        ("backlogQuery", Decimal("1e300"), "returned 1e+300: a count is at most 1e+15"),
        ("backlogQuery", Decimal("1e400"), "a number is needed"),
        ("backlogQuery", MOST_ITEMS + 1, "a count is at most"),
        ("arrivalsQuery", 2**63, "a count is at most 9.22337e+18"),
        ("lagQuery", 1e300, "returned 1e+300, which is no age in seconds"),
        ("lagQuery", -1.7e12, "returned -1.7e+12, which is no age in seconds"),
        ("lagQuery", float("inf"), "returned inf: a number is needed"),
        ("lagQuery", Decimal("NaN"), "returned NaN: a number is needed"),
    ],
)
async def test_a_number_that_no_queue_has_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(SignalUnavailable) as refused:
        await ask(answers(**{name: value}).open_probe())
    assert refused.value.reason is Reason.QUERY_NOT_A_NUMBER
    assert str(refused.value).startswith(f"queue.postgres.custom.{name} ")
    assert words in str(refused.value)


@pytest.mark.parametrize("value", [2**63 - 1, Decimal(2**63 - 1)])
async def test_a_counter_is_exact_up_to_the_largest_bigint(value: int | Decimal) -> None:
    """Only its differences mean something: as a floating point number, the next thousand would be the same."""
    assert (await ask(answers(arrivalsQuery=value).open_probe())).arrived == 2**63 - 1
