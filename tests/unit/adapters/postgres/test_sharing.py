"""Questions that wait for one connection go together, the most urgent first; one that fails spoils no other."""

import asyncio
import gc
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from headroom.adapters.postgres.queues import sharing
from headroom.adapters.postgres.queues.sharing import Connections, SharedQuestions, SharedStatement
from headroom.errors import HeadroomError, PrimaryUnavailable, SignalUnavailable
from headroom.ports.signals import QueueTables
from headroom.reasons import Reason

STATEMENT = SharedStatement("SELECT %(queue)s AS queue, 5 %% 2 AS rest LIMIT %(limit)s", {"queue": "text"})
OTHER = SharedStatement("SELECT %(queue)s AS other LIMIT %(limit)s", {"queue": "text"})
SLOW = PrimaryUnavailable("slow", reason=Reason.PRIMARY_TIMEOUT)
WRONG = SignalUnavailable("wrong", reason=Reason.QUERY_FAILED)


@dataclass(eq=False)
class Runner:
    """Answers each question with its own queue, after `seconds`; any statement that has one of `bad` fails."""

    seconds: float = 0.001
    bad: Mapping[str, HeadroomError] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)

    async def read(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, tables: QueueTables | None = None
    ) -> list[dict[str, Any]]:
        assert parameters is not None
        many = json.loads(parameters["questions"]) if "questions" in parameters else None
        queues = [parameters["queue"]] if many is None else [question["queue"] for question in many]
        self.asked.append(queues)
        await asyncio.sleep(self.seconds)
        for queue in queues:
            if queue in self.bad:
                raise self.bad[queue]
        rows = [{"queue": queue} for queue in queues]
        return rows if many is None else [{"answers": rows}]


async def ask(questions: SharedQuestions, queue: str, *, within: float = 5.0, **more: Any) -> Any:
    statement, limit = more.get("statement", STATEMENT), more.get("limit", 7)
    parameters = {"queue": queue, "limit": limit}
    return await questions.ask(statement, parameters, asker=queue, within_seconds=within)


def test_only_a_pools_own_parameters_become_columns() -> None:
    text = STATEMENT.for_many()
    assert "AS asked (asked_turn int, queue text)" in text
    assert "(SELECT asked.queue AS queue, 5 %% 2 AS rest LIMIT %(limit)s) answer" in text


async def test_a_question_is_sent_at_once_while_the_connection_is_free() -> None:
    runner = Runner()
    assert await ask(SharedQuestions(runner), "a") == {"queue": "a"}
    assert runner.asked == [["a"]]


async def test_those_that_come_meanwhile_go_together_and_each_gets_its_answer() -> None:
    runner = Runner()
    questions = SharedQuestions(runner)
    names = [f"q{number}" for number in range(60)]
    answers = await asyncio.gather(*(ask(questions, name) for name in names))
    assert [answer["queue"] for answer in answers] == names
    assert len(runner.asked) <= 3


async def test_the_most_urgent_are_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MOST_AT_ONCE", 2)
    runner = Runner()
    questions = SharedQuestions(runner)
    calm = [asyncio.create_task(ask(questions, f"calm-{number}")) for number in range(4)]
    late = [asyncio.create_task(ask(questions, f"late-{number}", within=1.0)) for number in range(2)]
    await asyncio.gather(*calm, *late)
    assert sorted(runner.asked[0]) == ["late-0", "late-1"]


async def test_other_statements_and_limits_are_asked_apart() -> None:
    runner = Runner()
    questions = SharedQuestions(runner)
    first = asyncio.create_task(ask(questions, "first"))
    await asyncio.sleep(0)
    rest = [
        ask(questions, "a"),
        ask(questions, "b", statement=OTHER),
        ask(questions, "c", limit=8),
        ask(questions, "d"),
    ]
    await asyncio.gather(first, *rest)
    assert sorted(map(sorted, runner.asked[1:])) == [["a", "d"], ["b"], ["c"]]


async def test_one_question_that_fails_spoils_no_other() -> None:
    runner = Runner(bad={"q3": WRONG})
    questions = SharedQuestions(runner)
    names = [f"q{number}" for number in range(8)]
    answers = await asyncio.gather(*(ask(questions, name) for name in names), return_exceptions=True)
    assert answers[3] is WRONG
    assert [answer["queue"] for answer in answers[:3] + answers[4:]] == names[:3] + names[4:]


async def test_a_question_that_takes_too_long_is_asked_alone_from_then_on() -> None:
    runner = Runner(bad={"slow": SLOW})
    questions = SharedQuestions(runner)
    names = [*(f"q{number}" for number in range(15)), "slow"]
    for _ in range(4):
        answers = await asyncio.gather(*(ask(questions, name) for name in names), return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, HeadroomError)] == [SLOW]
    last = runner.asked[-6:]
    assert all(group == ["slow"] for group in last if "slow" in group)
    assert max(len(group) for group in last) > 4, "the others go together again"


async def test_a_pool_that_gave_up_is_not_asked_for() -> None:
    runner = Runner(seconds=0.02)
    questions = SharedQuestions(runner)
    first, second = (asyncio.create_task(ask(questions, name)) for name in ("a", "b"))
    await asyncio.sleep(0.001)
    third = asyncio.create_task(ask(questions, "c"))
    await asyncio.sleep(0.001)
    third.cancel()
    await asyncio.gather(first, second)
    assert ["c"] not in runner.asked
    assert all("c" not in group for group in runner.asked)


async def test_whoever_waits_too_long_is_told_that_it_was_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "WAIT_SECONDS", 0.01)
    questions = SharedQuestions(Runner(seconds=0.05))
    first = asyncio.create_task(ask(questions, "a"))
    await asyncio.sleep(0.005)
    with pytest.raises(PrimaryUnavailable, match="other pools' queries"):
        await ask(questions, "b")
    assert await first == {"queue": "a"}


async def test_questions_are_shared_for_each_connection_and_only_while_somebody_has_them() -> None:
    connections, one, two = Connections(), Runner(), Runner()
    mine = connections.questions(one)
    assert connections.questions(one) is mine
    assert connections.questions(two) is not mine
    del mine
    gc.collect()
    assert connections.questions(one).runner is one
