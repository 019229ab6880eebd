"""How much of one turn of the event loop goes into what servers have sent: little, and by namespace in turn."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from headroom.adapters.clock import read_seconds

NAMESPACE_SECONDS = 0.001
PROCESS_SECONDS = 0.004
"""Of one turn: whatever is not done by then waits for the next ones."""
Work = Callable[[float], bool]
"""Does some of what there is to do, until a time of `read_seconds`; True if there is more."""


@dataclass(slots=True)
class Pace:
    """Runs work at once while its namespace has used little of this turn, and else in the next turns."""

    _waiting: "OrderedDict[str, deque[Work]]" = field(default_factory=OrderedDict)
    _used: dict[str, float] = field(default_factory=dict)
    """Seconds of this turn, by namespace."""
    _used_by_all: float = 0.0
    _loop: asyncio.AbstractEventLoop | None = None
    _is_counting: bool = False

    def run(self, namespace: str, work: Work) -> None:
        """Do it, now or soon. What waits for a namespace is done in order, a piece of each at a time."""
        self._begin()
        if namespace in self._waiting or self._do(namespace, work):
            self._waiting.setdefault(namespace, deque()).append(work)

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._is_counting = loop, False
            self._waiting.clear()
        if not self._is_counting:
            self._is_counting = True
            self._used.clear()
            self._used_by_all = 0.0
            loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_counting = False
        if not self._waiting:
            return
        self._begin()
        for namespace in list(self._waiting):
            if self._used_by_all >= PROCESS_SECONDS:
                return
            self._serve(namespace)

    def _serve(self, namespace: str) -> None:
        queue = self._waiting[namespace]
        while queue and self._find_rest(namespace) > 0:
            work = queue.popleft()
            if self._do(namespace, work):
                queue.append(work)
        if queue:
            self._waiting.move_to_end(namespace)
        else:
            del self._waiting[namespace]

    def _do(self, namespace: str, work: Work) -> bool:
        """Whether there is more to do."""
        rest = self._find_rest(namespace)
        if rest <= 0:
            return True
        began = read_seconds()
        try:
            return work(began + rest)
        finally:
            took = read_seconds() - began
            self._used[namespace] = self._used.get(namespace, 0.0) + took
            self._used_by_all += took

    def _find_rest(self, namespace: str) -> float:
        return min(NAMESPACE_SECONDS - self._used.get(namespace, 0.0), PROCESS_SECONDS - self._used_by_all)
