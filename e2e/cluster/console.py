"""What the user sees while something is made: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

PLAIN_INTERVAL_SECONDS = 15.0


class Step(Protocol):
    """One piece of work that says how far it is."""

    def update(self, done: int, total: int, detail: str) -> None:
        """Say how much is done; total 0 means that nobody knows."""


class Console:
    """Says what happens; steps may run side by side in threads."""

    def __init__(self, *, is_terminal: bool | None = None) -> None:
        """Write to standard error, which leaves standard output to results."""
        self._rich = RichConsole(stderr=True, force_terminal=is_terminal, highlight=False)
        self._is_live = self._rich.is_terminal
        self._progress: Progress | None = None
        self._open_steps = 0
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        if self._is_live:
            self._rich.print(text, markup=False)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step from here to the end of the block, then the time it took."""
        started = time.monotonic()
        step: _LiveStep | _PlainStep = self._open_live(title) if self._is_live else _PlainStep(self, title)
        try:
            yield step
        finally:
            if isinstance(step, _LiveStep):
                self._close_live(step)
        self.say(f"{title}: {time.monotonic() - started:.1f} s")

    def _open_live(self, title: str) -> _LiveStep:
        with self._lock:
            if self._progress is None:
                self._progress = Progress(
                    SpinnerColumn(),
                    TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=36)),
                    BarColumn(bar_width=12),
                    TextColumn("{task.fields[detail]}", table_column=Column(no_wrap=True, ratio=1)),
                    TimeElapsedColumn(),
                    console=self._rich,
                    transient=True,
                    expand=True,
                )
                self._progress.start()
            self._open_steps += 1
            return _LiveStep(self._progress, self._progress.add_task(title, total=None, detail=""))

    def _close_live(self, step: _LiveStep) -> None:
        with self._lock:
            step.close()
            self._open_steps -= 1
            if self._open_steps == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None


class _LiveStep:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def update(self, done: int, total: int, detail: str) -> None:
        count = f"{done}/{total} " if total else ""
        self._progress.update(self._task, completed=done, total=total or None, detail=(count + detail)[:60])

    def close(self) -> None:
        self._progress.remove_task(self._task)


class _PlainStep:
    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._started = self._said_at = time.monotonic()
        console.say(f"{title} ...")

    def update(self, done: int, total: int, detail: str) -> None:
        now = time.monotonic()
        if now - self._said_at < PLAIN_INTERVAL_SECONDS:
            return
        self._said_at = now
        count = f"{done}/{total} " if total else ""
        self._console.say(f"{self._title}: {count}{detail} ({now - self._started:.0f} s)")
