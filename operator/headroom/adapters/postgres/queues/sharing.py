"""The same question for many queues, in one statement: pools that share a connection do not wait for each other's turn.

A question is sent at once while the connection is free. Those that come meanwhile are sent together as soon as it is
free again, the ones that are due first before the others.
"""

import asyncio
import heapq
import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from headroom.adapters.postgres.values import WHERE, understood
from headroom.errors import HeadroomError, PrimaryUnavailable
from headroom.ports.signals import QueueTables, SqlRunner
from headroom.reasons import Reason

STATEMENT_SECONDS = 0.2
"""What one statement for many queues should take, well below the server's own limit."""
MOST_AT_ONCE = 100
WAIT_SECONDS = 10.0
"""A question that has waited for so long is not asked any more: its pool holds, and asks again."""
ALONE_SECONDS = 60.0
"""A question that failed together with others is asked alone for so long, so that it spoils no statement of theirs."""
EVEN = 0.3
"""Weight of the newest statement in the time that one question takes."""
_TIMEOUTS = (Reason.PRIMARY_TIMEOUT, Reason.QUERY_TIMEOUT)
_PARAMETER = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class SharedStatement:
    """A statement that returns one row over `tables`; `own` are the parameters that differ between questions, with
    their types.
    """

    text: str
    own: Mapping[str, str]
    tables: QueueTables | None = None

    def for_many(self) -> str:
        """The statement for a JSON array of such parameters, `%(questions)s`; one row with a JSON array of rows."""
        columns = ", ".join(f"{name} {kind}" for name, kind in self.own.items())
        answer = _PARAMETER.sub(lambda found: f"asked.{found[1]}" if found[1] in self.own else found[0], self.text)
        return (
            "SELECT json_agg(to_json(found) ORDER BY found.asked_turn) AS answers FROM (\n"  # noqa: S608  constants
            "SELECT asked.asked_turn, answer.*\n"
            f"FROM json_to_recordset(%(questions)s::json) AS asked (asked_turn int, {columns})\n"
            f"CROSS JOIN LATERAL ({answer}) answer) found"
        )


@dataclass(slots=True, eq=False)
class _Question:
    statement: SharedStatement
    parameters: Mapping[str, Any]
    asker: Hashable
    given_up_at: float
    answer: "asyncio.Future[Mapping[str, Any]]"

    def fits(self, other: "_Question") -> bool:
        """Whether one statement can ask both: they differ in their own parameters only."""
        return self.statement.text == other.statement.text and self.common == other.common

    @property
    def common(self) -> dict[str, Any]:
        return {name: value for name, value in self.parameters.items() if name not in self.statement.own}

    def own(self, turn: int) -> dict[str, Any]:
        return {"asked_turn": turn, **{name: self.parameters[name] for name in self.statement.own}}


@dataclass(slots=True, eq=False, weakref_slot=True)
class SharedQuestions:
    """The questions that wait for one connection."""

    runner: SqlRunner
    _waiting: list[tuple[float, int, _Question]] = field(default_factory=list)
    _order: "count[int]" = field(default_factory=count)
    _alone: dict[Hashable, float] = field(default_factory=dict)
    _seconds_each: float = 0.0
    _task: "asyncio.Task[None] | None" = None

    async def ask(
        self, statement: SharedStatement, parameters: Mapping[str, Any], *, asker: Hashable, within_seconds: float
    ) -> Mapping[str, Any]:
        """The row of a statement; raises what the connection raises. `asker` is the same for all questions of a pool,
        `within_seconds` how soon the answer is wanted.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        question = _Question(statement, parameters, asker, now + WAIT_SECONDS, loop.create_future())
        heapq.heappush(self._waiting, (now + within_seconds, next(self._order), question))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_all())
        return await question.answer

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                questions = self._take(asyncio.get_running_loop().time())
                if questions:
                    await self._send(questions)
        except BaseException as error:
            self._fail_all(error)
            raise

    def _fail_all(self, error: BaseException) -> None:
        """The task ends before its time: nobody may wait for an answer that never comes."""
        waiting, self._waiting = self._waiting, []
        for _, _, question in waiting:
            if not question.answer.done():
                message = f"the probe was ended: {type(error).__name__}"
                question.answer.set_exception(PrimaryUnavailable(message, reason=Reason.PRIMARY_UNREACHABLE))

    def _take(self, now: float) -> list[_Question]:
        """The questions that go with the one that is due first, as many as one statement should ask."""
        most = max(1, min(MOST_AT_ONCE, int(STATEMENT_SECONDS / max(self._seconds_each, 1e-6))))
        taken: list[_Question] = []
        rest = []
        while self._waiting and len(taken) < most:
            entry = heapq.heappop(self._waiting)
            question = entry[2]
            if question.answer.done():
                continue
            if question.given_up_at <= now:
                message = f"the queue was not asked within {WAIT_SECONDS:g} s: other pools' queries take their time"
                question.answer.set_exception(PrimaryUnavailable(message, reason=Reason.PRIMARY_TIMEOUT))
            elif not taken or (not self._is_alone(taken[0], now) and self._may_join(taken[0], question, now)):
                taken.append(question)
            else:
                rest.append(entry)
        for entry in rest:
            heapq.heappush(self._waiting, entry)
        return taken

    def _may_join(self, first: _Question, question: _Question, now: float) -> bool:
        return not self._is_alone(question, now) and first.fits(question)

    def _is_alone(self, question: _Question, now: float) -> bool:
        return self._alone.get(question.asker, 0.0) > now

    async def _send(self, questions: Sequence[_Question]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            answers = await self._query(questions)
        except HeadroomError as error:
            self._fail(questions, error, loop.time() - began)
        except BaseException as error:
            for question in questions:
                if not question.answer.done():
                    question.answer.set_exception(error)
            raise
        else:
            each = (loop.time() - began) / len(questions)
            self._seconds_each += EVEN * (each - self._seconds_each)
            for question, answer in zip(questions, answers, strict=True):
                if not question.answer.done():
                    question.answer.set_result(answer)
                    # One pool's pass after the other: a hundred in one turn of the loop would hold up all else.
                    await asyncio.sleep(0)

    async def _query(self, questions: Sequence[_Question]) -> Sequence[Mapping[str, Any]]:
        first = questions[0]
        if len(questions) == 1:
            rows = await self.runner.read(first.statement.text, first.parameters, tables=first.statement.tables)
            return _check_count(rows, questions)
        asked = json.dumps([question.own(turn) for turn, question in enumerate(questions)])
        parameters = {**first.common, "questions": asked}
        rows = await self.runner.read(first.statement.for_many(), parameters, tables=first.statement.tables)
        with understood(WHERE):
            return _check_count(rows[0]["answers"], questions)

    def _fail(self, questions: Sequence[_Question], error: HeadroomError, seconds: float) -> None:
        """A question that failed by itself has failed. Of several, nobody knows which one it was: a timeout asks fewer
        at once, and any other error asks each alone.
        """
        loop = asyncio.get_running_loop()
        is_timeout = getattr(error, "reason", None) in _TIMEOUTS
        if len(questions) == 1:
            if is_timeout:
                self._isolate(questions[0], loop.time())
            if not questions[0].answer.done():
                questions[0].answer.set_exception(error)
            return
        if is_timeout:
            self._seconds_each = max(2 * self._seconds_each, 2 * STATEMENT_SECONDS / len(questions))
        else:
            for question in questions:
                self._isolate(question, loop.time())
        for question in questions:
            # They have waited already: before all others.
            heapq.heappush(self._waiting, (loop.time() - seconds, next(self._order), question))

    def _isolate(self, question: _Question, now: float) -> None:
        self._alone = {asker: until for asker, until in self._alone.items() if until > now}
        self._alone[question.asker] = now + ALONE_SECONDS


def _check_count(answers: Any, questions: Sequence[_Question]) -> Sequence[Mapping[str, Any]]:
    """An answer for each question: nobody may wait for one that never comes."""
    with understood(WHERE):
        if len(answers) != len(questions) or not all(isinstance(answer, Mapping) for answer in answers):
            raise ValueError(f"{len(answers)} answers to {len(questions)} questions")
    found: Sequence[Mapping[str, Any]] = answers
    return found


@dataclass(slots=True)
class Connections:
    """The questions of each connection, as long as a probe has them."""

    _questions: "WeakValueDictionary[int, SharedQuestions]" = field(default_factory=WeakValueDictionary)

    def questions(self, runner: SqlRunner) -> SharedQuestions:
        """Those of this connection."""
        # Whoever has the questions has the connection too, so that no other object gets its id.
        found = self._questions.get(id(runner))
        if found is None:
            found = self._questions[id(runner)] = SharedQuestions(runner)
        return found
