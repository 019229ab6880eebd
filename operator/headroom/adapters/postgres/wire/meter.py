"""The room that large answers have, shared out by namespace."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from headroom.adapters.postgres.wire.messages import Violation

MOST_NAMESPACE_BYTES = 16 << 20
MOST_PROCESS_BYTES = 48 << 20
"""Held by all connections beyond their free bytes; libpq and Python take about three times as much."""


class Holder(Protocol):
    """An answer that takes room."""

    namespace: str
    taken: int
    """Bytes that the meter counts for it."""

    @property
    def end(self) -> Callable[[Violation], None]:
        """Ends its connection."""
        ...


class Busy(Violation):
    """There is no room for an answer now, whoever sent it."""

    def __init__(self) -> None:
        super().__init__("large answers of other connections take all the room there is for them; it is asked again")


@dataclass(slots=True)
class Meter:
    """Bytes that large answers hold beyond what is free, of each namespace and of the process.

    A namespace has a bound. If the process has no room, the largest answer of the namespace that holds most ends:
    who holds less than others is never refused for their sake.
    """

    most: int = MOST_PROCESS_BYTES
    most_each: int = MOST_NAMESPACE_BYTES
    held: int = 0
    _holders: dict[str, set[Holder]] = field(default_factory=dict)

    def held_by(self, namespace: str) -> int:
        """Bytes of one namespace."""
        return sum(answers.taken for answers in self._holders.get(namespace, ()))

    def take(self, answers: Holder, amount: int) -> None:
        """Count more bytes of an answer; raises Busy if there is no room for them."""
        wanted = self.held_by(answers.namespace) + amount
        if wanted > self.most_each:
            raise Busy
        while self.held + amount > self.most:
            largest = max(self._holders, key=self.held_by, default=answers.namespace)
            if self.held_by(largest) <= wanted:
                raise Busy
            victim = max(self._holders[largest], key=lambda each: each.taken)
            self.give_back(victim)
            victim.end(Busy())
        self.held += amount
        answers.taken += amount
        self._holders.setdefault(answers.namespace, set()).add(answers)

    def give_back(self, answers: Holder) -> None:
        """The connection is gone, and its buffers with it."""
        self.held -= answers.taken
        answers.taken = 0
        holders = self._holders.get(answers.namespace, set())
        holders.discard(answers)
        if not holders:
            self._holders.pop(answers.namespace, None)
