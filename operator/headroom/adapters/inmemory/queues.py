"""Queues in memory: numbers that a test sets, behind the port of the real probes."""

from dataclasses import dataclass, field, replace

from headroom.api.v1alpha1.queue import PostgresQueue
from headroom.errors import HeadroomError
from headroom.model.queue import QueueQuestion, QueueSample
from headroom.ports.signals import QueueProbe, SqlRunner

EMPTY = QueueSample(0.0, 0.0, 0, in_flight=0, arrived=0, ended=0, failed=0)


@dataclass(slots=True)
class MemoryQueueProbes:
    """Implements `QueueProbes`: every probe it opens returns `numbers` as they are when it is asked, or raises `error`.
    `opened` lists what probes were opened for, `questions` what they were asked; `channels` are those of all of them.
    """

    numbers: QueueSample = EMPTY
    error: HeadroomError | None = None
    opened: list[tuple[PostgresQueue, SqlRunner]] = field(default_factory=list)
    questions: list[QueueQuestion] = field(default_factory=list)
    channels: tuple[str, ...] = ()

    def open(self, queue: PostgresQueue, runner: SqlRunner) -> QueueProbe:
        """See `QueueProbes.open`."""
        self.opened.append((queue, runner))
        return MemoryProbe(self)


@dataclass(slots=True)
class MemoryProbe:
    """Implements `QueueProbe`."""

    probes: MemoryQueueProbes

    @property
    def channels(self) -> tuple[str, ...]:
        """See `QueueProbe.channels`."""
        return self.probes.channels

    async def sample(self, question: QueueQuestion) -> QueueSample:
        """See `QueueProbe.sample`."""
        self.probes.questions.append(question)
        if self.probes.error is not None:
            raise self.probes.error
        return replace(self.probes.numbers, taken_at=question.asked_at)
