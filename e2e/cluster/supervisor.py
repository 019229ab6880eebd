"""First process of the box: sets it up, starts its components in order and keeps them running.

Run by box.py as `python -m e2e.cluster.supervisor`; ending it ends everything in the box.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from e2e.cluster.addons import addons
from e2e.cluster.components import Component, Places
from e2e.cluster.control_plane import control_plane
from e2e.cluster.layout import Node, node_list
from e2e.cluster.network import add_node_network, set_up_box
from e2e.cluster.node import node_components
from e2e.cluster.prepare import prepare_cluster, prepare_node
from e2e.cluster.probes import is_answering
from e2e.cluster.settings import Settings, load_settings

TICK_SECONDS = 0.05
CALM_TICK_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 5.0

State = Literal["waiting", "starting", "ready", "failed"]


@dataclass(slots=True)
class Running:
    """A component and what became of it."""

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


class Supervisor:
    """Starts what is due, restarts what died, and writes down how things stand."""

    def __init__(self, settings: Settings, places: Places) -> None:
        """Begin with the control plane and the first node."""
        self._settings = settings
        self._places = places
        self._running: dict[str, Running] = {}
        self._nodes: list[Node] = []
        self._written = ""
        self._started_at = time.time()
        self._add([*control_plane(places), *addons(places)])

    def run_forever(self) -> None:
        """Supervise until killed."""
        while True:
            self._follow_desired()
            self._reap()
            for running in self._running.values():
                self._advance(running)
            self._write_status()
            is_calm = all(running.state == "ready" for running in self._running.values())
            time.sleep(CALM_TICK_SECONDS if is_calm else TICK_SECONDS)

    def _add(self, components: list[Component]) -> None:
        for component in components:
            self._running[component.name] = Running(component)

    def _follow_desired(self) -> None:
        desired = json.loads(self._settings.desired_file.read_text())
        for node in node_list(desired["nodes"])[len(self._nodes) :]:
            if not node.is_first:
                add_node_network(node)
            prepare_node(node, self._settings, self._places)
            self._nodes.append(node)
            self._add(node_components(node, self._places))

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
                self._note_end(by_pid[pid], os.waitstatus_to_exitcode(status))

    def _note_end(self, running: Running, code: int) -> None:
        running.pid = 0
        if running.component.is_task and code == 0:
            running.state, running.ready_at = "ready", time.time()
            return
        running.failures += 1
        running.state = "failed"
        running.retry_at = time.monotonic() + min(0.2 * 2 ** min(running.failures, 8), MAX_BACKOFF_SECONDS)

    def _advance(self, running: Running) -> None:
        is_due = running.state == "waiting" and self._may_start(running.component)
        is_due_again = running.state == "failed" and time.monotonic() >= running.retry_at
        if is_due or is_due_again:
            self._start(running)
        elif running.state == "starting" and not running.component.is_task and is_answering(running.component.ready):
            running.state, running.ready_at = "ready", time.time()

    def _may_start(self, component: Component) -> bool:
        return all(self._running[name].state == "ready" for name in component.after)

    def _start(self, running: Running) -> None:
        component = running.component
        log = self._settings.logs / f"{component.name}.log"
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

    def _write_status(self) -> None:
        status = {
            "startedAt": self._started_at,
            "nodes": [node.name for node in self._nodes],
            "components": [running.describe() for running in self._running.values()],
        }
        text = json.dumps(status, indent=1)
        if text == self._written:
            return
        draft = self._settings.status_file.with_suffix(".new")
        draft.write_text(text)
        draft.rename(self._settings.status_file)
        self._written = text


def main() -> None:
    """Set up the box around this process and supervise it."""
    settings = load_settings()
    tools, own = (Path(argument) for argument in sys.argv[1:3])
    places = Places(tools=tools, own=own, state=settings.state, pki=settings.pki, python=sys.executable)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    os.environ["PATH"] = f"{tools}:{own}:/usr/sbin:/usr/bin:/sbin:/bin"
    set_up_box(settings)
    prepare_cluster(settings, places)
    Supervisor(settings, places).run_forever()


if __name__ == "__main__":
    main()
