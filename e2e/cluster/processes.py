"""Starting components in order, restarting what dies, knowing how each of them is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from e2e.cluster.components import Component

FIRST_BACKOFF_SECONDS = 0.4
MAX_BACKOFF_SECONDS = 5.0

State = Literal["waiting", "starting", "ready", "failed"]


@dataclass(slots=True)
class Running:
    """A component and what became of it; times are wall clock, `retry_at` is monotonic."""

    component: Component
    state: State = "waiting"
    pid: int = 0
    started_at: float = 0.0
    ready_at: float = 0.0
    failures: int = 0
    retry_at: float = 0.0

    def describe(self) -> dict[str, Any]:
        """Return what the status file says of it."""
        return {
            "name": self.component.name,
            "node": self.component.node,
            "task": self.component.is_task,
            "state": self.state,
            "pid": self.pid,
            "startedAt": self.started_at,
            "readyAt": self.ready_at,
            "failures": self.failures,
        }


class ProcessTable:
    """All components; `step` does what is due and never waits for anything but a probe."""

    def __init__(self, logs: Path, probe: Callable[[str], bool]) -> None:
        """Write each component's output to a file below logs."""
        self._logs = logs
        self._probe = probe
        self._running: dict[str, Running] = {}

    def add(self, components: Iterable[Component]) -> None:
        """Take over components, to be started when what they need is ready."""
        for component in components:
            self._running[component.name] = Running(component)

    def describe(self) -> list[dict[str, Any]]:
        """Return how each component is."""
        return [running.describe() for running in self._running.values()]

    def is_calm(self) -> bool:
        """Tell whether everything is ready."""
        return all(running.state == "ready" for running in self._running.values())

    def step(self) -> None:
        """Note what ended, start what is due, probe what is starting."""
        self._reap()
        for running in self._running.values():
            self._advance(running)

    def _reap(self) -> None:
        by_pid = {running.pid: running for running in self._running.values() if running.pid}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                _note_end(by_pid[pid], os.waitstatus_to_exitcode(status))

    def _advance(self, running: Running) -> None:
        is_due = running.state == "waiting" and self._may_start(running.component)
        is_due_again = running.state == "failed" and time.monotonic() >= running.retry_at
        if is_due or is_due_again:
            self._start(running)
        elif running.state == "starting" and not running.component.is_task and self._probe(running.component.ready):
            running.state, running.ready_at = "ready", time.time()

    def _may_start(self, component: Component) -> bool:
        return all(self._running[name].state == "ready" for name in component.after)

    def _start(self, running: Running) -> None:
        component = running.component
        log = self._logs / f"{component.name}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        running.pid = os.posix_spawnp(
            component.argv[0],
            component.argv,
            {**os.environ, **component.env},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
        )
        running.state, running.started_at = "starting", time.time()


def _note_end(running: Running, code: int) -> None:
    running.pid = 0
    if running.component.is_task and code == 0:
        running.state, running.ready_at = "ready", time.time()
        return
    backoff_seconds = min(FIRST_BACKOFF_SECONDS * 2 ** min(running.failures, 8), MAX_BACKOFF_SECONDS)
    running.failures += 1
    running.state, running.retry_at = "failed", time.monotonic() + backoff_seconds
