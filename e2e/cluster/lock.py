"""One command at a time changes the cluster or its cache."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.console import Console
from e2e.cluster.errors import ClusterError


@contextmanager
def exclusive(path: Path, console: Console, *, patience_seconds: float = 1800) -> Iterator[None]:
    """Hold the lock at path; the kernel releases it however this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        _wait(handle.fileno(), path, console, patience_seconds)
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def _wait(descriptor: int, path: Path, console: Console, patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    is_told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = path.read_text().strip() or "unknown"
            if not is_told:
                console.say(f"waiting for another cluster command (process {owner})")
                is_told = True
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"Process {owner} has held {path} for {patience_seconds:.0f} s: end it and try again."
                ) from None
            time.sleep(0.2)
        else:
            return
