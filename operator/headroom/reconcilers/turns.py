"""Shares of the event loop: no namespace's passes keep another's waiting, however many they are and whatever they do.

All passes run in one event loop, and what runs is never interrupted. So turns are dealt out in two places. One pass
begins in each turn of the loop, of the namespace that has used the loop least. And a pass that was waiting continues at
once only while its namespace has used no more than a quantum in this turn (deficit round robin, Shreedhar and Varghese,
1995). The others continue in the next turns, in their order.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from types import coroutine
from typing import Any, TypeVar

from headroom.ports.clock import Clock
from headroom.reconcilers.fairness import FairQueue

T = TypeVar("T")
QUANTUM_SECONDS = 0.001
"""Of one turn of the loop for one namespace: about five steps of a pass. The canary may be 100 ms late."""
FIRST_STEP_SECONDS = 0.0002
"""What a step is taken to need before any was measured."""
WEIGHT = 0.1
"""Of the newest step in the average of a namespace's steps."""


@dataclass(slots=True)
class LoopTurns:
    """Deals out turns of the event loop by namespace, and measures what each uses."""

    clock: Clock
    _beginning: "FairQueue[asyncio.Future[None]]" = field(default_factory=FairQueue)
    _going_on: "dict[str, deque[asyncio.Future[None]]]" = field(default_factory=dict)
    _used: dict[str, float] = field(default_factory=dict)
    """Seconds in this turn of the loop."""
    _step_seconds: dict[str, float] = field(default_factory=dict)
    """Of an average step of each namespace that has used this turn, or that waits."""
    _is_dealing: bool = False

    async def begin(self, namespace: str) -> None:
        """Wait until a pass of this namespace may begin."""
        turn = asyncio.get_running_loop().create_future()
        self._beginning.push(namespace, turn)
        self._deal_soon()
        try:
            await turn
        finally:
            self._beginning.remove(namespace, turn)

    @coroutine
    def run(self, namespace: str, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """Await `work` with each of its steps measured and in turn; tasks that it starts are not."""
        value: Any = None
        failure: BaseException | None = None
        while True:
            began = self.clock.monotonic()
            try:
                awaited = work.send(value) if failure is None else work.throw(failure)
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                self._charge(namespace, self.clock.monotonic() - began)
            value, failure = None, None
            try:
                value = yield awaited
                if self._is_over(namespace):
                    yield from self._wait(namespace)
            except BaseException as error:  # noqa: BLE001  it belongs to `work`, which raises it or handles it
                failure = error

    def _is_over(self, namespace: str) -> bool:
        if namespace in self._going_on:
            return True
        used, step = self._used.get(namespace, 0.0), self._step_seconds.get(namespace, FIRST_STEP_SECONDS)
        return used > 0 and used + step > QUANTUM_SECONDS

    def _wait(self, namespace: str) -> Generator[Any, None, None]:
        turn = asyncio.get_running_loop().create_future()
        self._going_on.setdefault(namespace, deque()).append(turn)
        self._deal_soon()
        yield from turn

    def _charge(self, namespace: str, seconds: float) -> None:
        self._used[namespace] = self._used.get(namespace, 0.0) + seconds
        average = self._step_seconds.get(namespace, FIRST_STEP_SECONDS)
        self._step_seconds[namespace] = average + WEIGHT * (seconds - average)
        self._beginning.charge(namespace, seconds)
        self._deal_soon()

    def _deal_soon(self) -> None:
        # What is called soon is called once in the next turn of the loop.
        if not self._is_dealing:
            self._is_dealing = True
            asyncio.get_running_loop().call_soon(self._deal)

    def _deal(self) -> None:
        self._is_dealing = False
        self._used.clear()
        for namespace in list(self._going_on):
            self._deal_quantum(namespace)
        self._deal_beginning()
        if self._beginning or self._going_on:
            self._deal_soon()
        else:
            self._step_seconds.clear()

    def _deal_quantum(self, namespace: str) -> None:
        """Let as many passes continue as a quantum is enough for, and at least one."""
        turns = self._going_on[namespace]
        seconds = max(self._step_seconds.get(namespace, FIRST_STEP_SECONDS), QUANTUM_SECONDS / 100)
        left = max(1, int(QUANTUM_SECONDS / seconds))
        while turns and left:
            left -= _grant(turns.popleft())
        if not turns:
            del self._going_on[namespace]

    def _deal_beginning(self) -> None:
        # Whoever has used up its quantum ends what it has begun first.
        while (found := self._beginning.pop(may_have=lambda name: name not in self._going_on)) is not None:
            namespace, turn = found
            if _grant(turn):
                # What its first step takes is known only afterwards.
                self._beginning.charge(namespace, FIRST_STEP_SECONDS)
                return


def _grant(turn: "asyncio.Future[None]") -> bool:
    """False if nobody waits for it any more."""
    if turn.done():
        return False
    turn.set_result(None)
    return True
