"""Processes of pods, where the cluster's node is this machine."""

import os
import signal
from pathlib import Path

import pytest


def kill_pod_processes(pod: str) -> list[int]:
    """SIGKILL every process of an operator's pod, from outside: inside, the first process cannot be killed.

    Skips the test, with the reason, where the node is another machine.
    """
    mark = f"HEADROOM_POD_NAME={pod}".encode()
    found = [pid for pid in _pids() if mark in _environment(pid)]
    if not found:
        pytest.skip(f"the processes of pod {pod} are not on this machine, so they cannot be killed from here")
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
