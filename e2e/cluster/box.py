"""The box: the namespaces in which the cluster runs. Starting, entering and ending it from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from e2e.cluster.errors import ClusterError
from e2e.cluster.layout import BOX_RUN, node_list
from e2e.cluster.network import CNI_STATE, cgroup_hierarchies
from e2e.cluster.prerequisites import require_root
from e2e.cluster.settings import MAX_NODES, REPOSITORY, Settings
from e2e.cluster.shell import run

SUPERVISOR = "e2e.cluster.supervisor"
END_SECONDS = 20.0
UNSHARE = (
    "unshare", "--fork", "--pid", "--mount", "--net", "--uts", "--ipc", "--mount-proc", "--kill-child",
)  # fmt: skip


class Box:
    """The one box of a cache folder."""

    def __init__(self, settings: Settings) -> None:
        """Look at the box of these settings."""
        self._settings = settings

    def outer_pid(self) -> int | None:
        """Return the process that holds the box, or None when it is not running."""
        try:
            pid = int(self._settings.box_file.read_text())
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        except (OSError, ValueError):
            return None
        is_ours = SUPERVISOR in arguments and str(self._settings.state) in arguments
        return pid if is_ours else None

    def inner_pid(self) -> int | None:
        """Return the box's first process, by the id it has where we are."""
        if self.is_inside():
            return 1
        outer = self.outer_pid()
        if outer is None:
            return None
        children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        return int(children[0]) if children else None

    def start(self, *, tools: Path, own: Path) -> None:
        """Start the box; its process id is on disk before it is one."""
        state = self._settings.state
        write_id = 'echo $$ > "$1.new" && mv "$1.new" "$1" && shift && exec "$@"'
        command = [
            "sh", "-c", write_id, "sh", str(self._settings.box_file), *UNSHARE, sys.executable, "-m", SUPERVISOR,
            str(tools), str(own), str(state),
        ]  # fmt: skip
        self._settings.logs.mkdir(parents=True, exist_ok=True)
        self._link_programs([tools, own])
        with (self._settings.logs / "supervisor.log").open("ab") as log:
            subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _link_programs(self, folders: Sequence[Path]) -> None:
        target = self._settings.state / "bin"
        target.mkdir()
        for folder in folders:
            for program in folder.iterdir():
                if os.access(program, os.X_OK):
                    (target / program.name).symlink_to(program)

    def is_running_from(self, tools: Path, own: Path) -> bool:
        """Tell whether the running box was started with these programs."""
        arguments = Path(f"/proc/{self.outer_pid()}/cmdline").read_bytes().decode().split("\0")
        return str(tools) in arguments and str(own) in arguments

    @staticmethod
    def is_inside() -> bool:
        """Tell whether this process itself runs inside the box: only there is its folder below /run."""
        return BOX_RUN.is_dir()

    def status(self) -> dict[str, Any] | None:
        """Return what the supervisor last wrote, or None before it did."""
        try:
            loaded: dict[str, Any] = json.loads(self._settings.status_file.read_text())
        except FileNotFoundError:
            return None
        return loaded

    def want_nodes(self, count: int) -> None:
        """Tell the supervisor how many nodes to run."""
        draft = self._settings.desired_file.with_suffix(".new")
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({"nodes": count}))
        draft.rename(self._settings.desired_file)

    def wanted_nodes(self) -> int:
        """Return how many nodes the supervisor was told to run."""
        try:
            return int(json.loads(self._settings.desired_file.read_text())["nodes"])
        except FileNotFoundError:
            return 0

    def command(self, arguments: Sequence[str]) -> list[str]:
        """Return the command that runs arguments inside the box."""
        if self.is_inside():
            return list(arguments)
        require_root()
        pid = self.inner_pid()
        if pid is None:
            raise ClusterError("The cluster is not running: start it with `make cluster-up`.")
        return [
            "nsenter", "-t", str(pid), "-m", "-n", "-p", "-u", "-i", f"--wdns={Path.cwd()}", "--", *arguments,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return the environment of a command inside the box."""
        path = ":".join([str(self._settings.state / "bin"), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        return {
            **os.environ,
            "PATH": path,
            "HEADROOM_CLUSTER_PATH": path,
            "KUBECONFIG": str(self._settings.kubeconfig),
            "CONTAINERD_ADDRESS": str(node_list(1)[0].containerd_socket),
            "CONTAINERD_NAMESPACE": "k8s.io",
        }

    def end(self) -> None:
        """End the box and everything in it, and wait until its loop device is free."""
        inner, outer = self.inner_pid(), self.outer_pid()
        if first := inner or outer:
            _kill(first)
        deadline = time.monotonic() + END_SECONDS
        while self.outer_pid() is not None or self._loop_devices():
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"The box does not end within {END_SECONDS:.0f} s: process {outer or 'unknown'} or the loop device "
                    f"of {self._settings.pool_file} is still there, see `losetup --list`."
                )
            time.sleep(0.05)

    def _loop_devices(self) -> str:
        pool = self._settings.pool_file
        return run(["losetup", "-j", pool]).strip() if pool.exists() else ""

    def clean(self) -> None:
        """Remove what an ended box leaves: its state folder and empty cgroups."""
        if self._settings.state.exists():
            shutil.rmtree(self._settings.state)
        for hierarchy in cgroup_hierarchies():
            for name in ("box", *(node.name for node in node_list(MAX_NODES))):
                _remove_cgroup(hierarchy / self._settings.cgroup(name))
        if CNI_STATE.is_dir():
            _remove_empty(CNI_STATE)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_cgroup(folder: Path) -> None:
    """Remove a cgroup and those below; one that still has processes is not ours to remove."""
    if not folder.is_dir():
        return
    for child in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        _remove_empty(child)
    _remove_empty(folder)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in {16, 39}:
            raise
