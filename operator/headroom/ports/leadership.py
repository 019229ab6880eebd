"""The right to write."""

from typing import Protocol


class Fence(Protocol):
    """Asked before every mutating call, so that a former leader cannot write beside the new one."""

    def check(self, timeout_seconds: float) -> None:
        """Raise `NotLeading` unless the lease outlives a call that takes at most `timeout_seconds`."""
        ...
