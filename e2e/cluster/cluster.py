"""Bringing the cluster up and down: build what is missing, start the box, wait until it is ready."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.cluster.box import Box
from e2e.cluster.build import build_binaries, drop_old_builds, own_folder, tools_folder
from e2e.cluster.console import Console
from e2e.cluster.errors import ClusterError
from e2e.cluster.images import build_images, build_pause
from e2e.cluster.lock import exclusive
from e2e.cluster.prerequisites import ensure_prerequisites, require_root
from e2e.cluster.settings import REPOSITORY, Settings, check_nodes
from e2e.cluster.shell import describe_failure

START_SECONDS = 180.0
MAX_FAILURES = 8
LOG_TAIL_LINES = 15


class Cluster:
    """The bundled cluster of this machine."""

    def __init__(self, settings: Settings, console: Console) -> None:
        """Look at the cluster of these settings."""
        self.settings = settings
        self.console = console
        self.box = Box(settings)

    def build(self) -> None:
        """Make programs and images that are not in the cache, and start nothing."""
        with self._alone():
            self._build()

    def build_programs(self) -> None:
        """Make the programs only."""
        with self._alone():
            ensure_prerequisites(self.console)
            build_binaries(self.settings, self.console)

    def _build(self) -> None:
        """Programs and images are made side by side: one waits for the compiler, the other for the network."""
        ensure_prerequisites(self.console)
        with ThreadPoolExecutor(max_workers=2) as pool:
            programs = pool.submit(build_binaries, self.settings, self.console)
            images = pool.submit(build_images, self.settings, self.console)
            programs.result()
            images.result()
        build_pause(self.settings)
        drop_old_builds(self.settings)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        require_root()
        with exclusive(self.settings.lock_file, self.console):
            yield

    def up(self, nodes: int | None) -> None:
        """Have a ready cluster of at least that many nodes; None leaves the number as it is."""
        if self.box.is_inside():
            self._wait(self.box.wanted_nodes())
            self.load_built()
            return
        with self._alone():
            self._build()
            wanted = check_nodes(max(nodes or 1, self.box.wanted_nodes()))
            is_fresh = self._ensure_box(wanted)
            self._wait(wanted)
            if not is_fresh:
                self.load_built()

    def _ensure_box(self, nodes: int) -> bool:
        tools, own = tools_folder(self.settings), own_folder(self.settings)
        if self.box.outer_pid() is not None and not self.box.is_running_from(tools, own):
            self.console.say("the programs have changed: starting the cluster anew")
            self.box.end()
        if self.box.outer_pid() is not None:
            self.box.want_nodes(nodes)
            return False
        self.box.clean()
        self.box.want_nodes(nodes)
        self.box.start(tools=tools, own=own)
        return True

    def _wait(self, nodes: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        with self.console.step(f"starting the cluster with {nodes} node{'s' if nodes > 1 else ''}") as step:
            while True:
                status = self.box.status()
                components = status["components"] if status else []
                ready = [entry for entry in components if entry["state"] == "ready"]
                if status and len(status["nodes"]) >= nodes and len(ready) == len(components):
                    return
                pending = [entry["name"] for entry in components if entry["state"] == "starting"]
                step.update(len(ready), len(components), "waiting for " + ", ".join(pending))
                self._check_progress(components, is_late=time.monotonic() > deadline)
                time.sleep(0.05)

    def _check_progress(self, components: list[dict[str, Any]], *, is_late: bool) -> None:
        if not self.box.is_inside() and self.box.outer_pid() is None:
            time.sleep(0.5)
            if self.box.outer_pid() is None:
                raise ClusterError("The box ended while it was started: " + self._log_tail("supervisor"))
        for entry in components:
            is_stuck = is_late and entry["state"] != "ready"
            if (entry["state"] == "failed" and entry["failures"] >= MAX_FAILURES) or (is_stuck and entry["pid"]):
                raise ClusterError(f"{entry['name']} does not become ready: {self._log_tail(entry['name'])}")
        if is_late:
            raise ClusterError(f"The cluster is not ready after {START_SECONDS:.0f} s: " + self._log_tail("supervisor"))

    def _log_tail(self, name: str) -> str:
        path = self.settings.logs / f"{name}.log"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return f"{path} ends with\n" + "\n".join(lines[-LOG_TAIL_LINES:])

    def down(self) -> None:
        """End the cluster and remove all traces of it but the cache."""
        if self.box.is_inside():
            raise ClusterError("This shell runs inside the cluster: leave it, then take the cluster down.")
        with self._alone():
            was_running = self.box.outer_pid() is not None
            self.box.end()
            self.box.clean()
        self.console.say("the cluster is down" if was_running else "no cluster was running")

    def refresh_images(self) -> None:
        """Build what changed and load it into the running cluster, if there is one."""
        with self._alone():
            ensure_prerequisites(self.console)
            build_images(self.settings, self.console)
            if self.box.is_inside() or self.box.inner_pid() is not None:
                self.load_built()

    def load_built(self) -> None:
        """Load images of the cache that the nodes do not have yet."""
        for node in self._node_names():
            self._inside([sys.executable, "-m", "e2e.cluster.importer", node])

    def load_archive(self, archive: Path) -> None:
        """Load an image archive into every node."""
        if not archive.is_file():
            raise ClusterError(f"{archive} is not a file: give the path of an image archive (docker save, OCI).")
        for node in self._node_names():
            self._inside([sys.executable, "-m", "e2e.cluster.importer", "--archive", str(archive.absolute()), node])

    def set_link(self, node: str, *, is_up: bool) -> None:
        """Cut a node off the network, or join it again; its processes go on running."""
        names = self._node_names()
        if node not in names[1:]:
            raise ClusterError(
                f"{node} cannot be cut off: choose one of {', '.join(names[1:]) or 'none (use NODES=2)'}."
            )
        self._inside(["ip", "link", "set", node, "up" if is_up else "down"])

    def _node_names(self) -> list[str]:
        status = self.box.status()
        return list(status["nodes"]) if status else []

    def _inside(self, arguments: list[str]) -> None:
        command = self.box.command(arguments)
        env = {**self.box.environment(), "PYTHONPATH": str(REPOSITORY)}
        result = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise ClusterError(describe_failure(arguments, result.returncode, result.stderr or result.stdout))
        for line in result.stderr.splitlines():
            if line.startswith("imported "):
                self.console.say(line)

    def execute(self, arguments: list[str]) -> None:
        """Become a command inside the box; does not return."""
        command = self.box.command(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            os.execvpe(command[0], command, self.box.environment())
        except FileNotFoundError:
            raise ClusterError(f"{command[0]} was not found: give a program that is on PATH.") from None
