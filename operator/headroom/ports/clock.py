"""The time, and until when this process may write."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for people, monotonic time for differences."""

    def now(self) -> datetime:
        """Current time, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; in tests, until the fake clock has moved that far."""
        ...


class Fence(Protocol):
    """Asked before every mutating call, so that a former leader cannot write beside the new one."""

    def check(self, timeout_seconds: float) -> None:
        """Raise `NotLeading` unless the lease outlives a call that takes at most `timeout_seconds`."""
        ...
