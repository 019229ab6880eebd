"""Waiting with a name: what was awaited, how long, and what was there instead."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TimedOut(AssertionError):
    """What was awaited did not come."""


def wait_until(what: str, look: Callable[[], T | None], *, timeout: float, every: float = 0.25) -> T:
    """Call `look` until it returns something true and return that; raises TimedOut that says what was awaited.

    An AssertionError in `look` counts as "not yet"; its text becomes part of the message.
    """
    deadline, last = time.monotonic() + timeout, "nothing"
    while True:
        try:
            found = look()
        except AssertionError as error:
            found, last = None, str(error)
        else:
            last = repr(found)[:400]
        if found:
            return found
        if time.monotonic() >= deadline:
            raise TimedOut(f"waited {timeout:.0f} s for: {what}; last look: {last}")
        time.sleep(every)
