"""Faults of storage, where the cluster's node is this machine: calls that fail, programs that stand still.

Both are of the whole cluster: no other test may need volumes meanwhile.
"""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.provider import Cluster
from e2e.cluster.settings import load_settings

FAULTS = "csi-faults.json"
SNAPSHOTTER = "snapshotter"
"""What asks the driver for snapshots: without it none becomes ready, and none is deleted."""


@contextmanager
def driver_faults(cluster: Cluster, **faults: dict[str, Any]) -> Iterator[None]:
    """Calls of these methods meet these faults while the block lasts, as e2e/cluster/README.md says."""
    path = _state(cluster) / FAULTS
    path.write_text(json.dumps(faults))
    try:
        yield
    finally:
        path.write_text("{}")


@contextmanager
def standing_still(cluster: Cluster, component: str) -> Iterator[None]:
    """A program of the cluster stands still while the block lasts, and goes on after it."""
    known = json.loads((_state(cluster) / "status.json").read_text())["components"]
    pid = next(int(each["pid"]) for each in known if each["name"] == component)
    command = Path(f"/proc/{pid}/cmdline").read_bytes()
    assert component.encode() in command, f"process {pid} is not {component}: {command!r}"
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _state(cluster: Cluster) -> Path:
    if cluster.name != "bundled":
        pytest.skip("only the storage of the bundled cluster can be made to fail")
    return load_settings().state
