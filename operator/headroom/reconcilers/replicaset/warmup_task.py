"""The run that fills one member's cache, and how the last one ended."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from headroom.model.warmup import Warmed
from headroom.policy.replicaset.warmup import WarmupState


@dataclass(slots=True)
class WarmupTask:
    """One at a time; `ended_at` is monotonic seconds, and forgotten when the server restarts with an empty cache."""

    pending: "asyncio.Task[Warmed] | None" = None
    ended_at: float | None = None
    is_done: bool = False
    is_stopping: bool = False
    restarts: int = 0

    @property
    def state(self) -> WarmupState:
        """What the policy must know."""
        return WarmupState(self.pending is not None, self.ended_at, self.is_done)

    def collect(self, restarts: int, now: float) -> Warmed | BaseException | None:
        """What a run that has ended since the last call came to; None if there is none."""
        ended: Warmed | BaseException | None = None
        if self.pending is not None and self.pending.done():
            task, self.pending = self.pending, None
            ended = asyncio.CancelledError() if task.cancelled() else task.exception() or task.result()
            self.ended_at, self.is_done, self.is_stopping = now, isinstance(ended, Warmed), False
        if restarts != self.restarts:
            self.restarts, self.ended_at = restarts, None
        return ended

    def begin(self, run: "Coroutine[Any, Any, Warmed]") -> "asyncio.Task[Warmed]":
        """Start a run."""
        self.pending = asyncio.create_task(run)
        return self.pending

    def stop(self) -> bool:
        """End the run, if there is one that was not told yet; nothing is waited for."""
        if self.pending is None or self.is_stopping:
            return False
        self.is_stopping = True
        self.pending.cancel()
        return True

    async def close(self) -> None:
        """End the run, and wait until its connections are closed."""
        self.stop()
        if self.pending is not None:
            await asyncio.gather(self.pending, return_exceptions=True)
