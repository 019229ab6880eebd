"""How the cluster is: nodes, components, uptime, memory."""

from __future__ import annotations

import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from e2e.cluster.box import Box
from e2e.cluster.settings import Settings


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """One component as a user wants to know it."""

    name: str
    node: str
    state: str
    uptime_seconds: int
    restarts: int
    memory_mib: int | None


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The whole cluster; memory counts shared pages once and leaves out page cache."""

    uptime_seconds: int
    memory_mib: int
    pool_mib: int
    nodes: Mapping[str, str]
    components: tuple[ComponentStatus, ...]


def read_status(settings: Settings) -> ClusterStatus | None:
    """Return the status, or None when no cluster is running."""
    box = Box(settings)
    root, status = box.inner_pid(), box.status()
    if root is None or status is None:
        return None
    memory = memory_below(root)
    by_inner = {inner: mib for inner, mib in memory.values() if inner}
    now = time.time()
    components = tuple(
        ComponentStatus(
            name=entry["name"],
            node=entry["node"],
            state="done" if entry["task"] and entry["state"] == "ready" else entry["state"],
            uptime_seconds=int(now - entry["startedAt"]) if entry["startedAt"] else 0,
            restarts=entry["failures"],
            memory_mib=by_inner.get(entry["pid"]),
        )
        for entry in status["components"]
    )
    return ClusterStatus(
        uptime_seconds=int(now - status["startedAt"]),
        memory_mib=sum(mib for _, mib in memory.values()),
        pool_mib=settings.pool_file.stat().st_blocks * 512 // 1024**2,
        nodes=_node_states(box),
        components=components,
    )


def _node_states(box: Box) -> dict[str, str]:
    command = box.command(["kubectl", "get", "nodes", "--output=json", "--request-timeout=3s"])
    result = subprocess.run(command, env=box.environment(), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return {}
    return {item["metadata"]["name"]: node_state(item) for item in json.loads(result.stdout)["items"]}


def node_state(node: Mapping[str, Any]) -> str:
    """Return Ready, or why the node is not."""
    for condition in node["status"].get("conditions", []):
        if condition["type"] == "Ready":
            return "Ready" if condition["status"] == "True" else f"NotReady ({condition['reason']})"
    return "NotReady"


def memory_below(root: int, proc: Path = Path("/proc")) -> dict[int, tuple[int, int]]:
    """Return, for each process below root: its id in root's namespace (0 in a pod) and its memory in MiB."""
    children: dict[int, list[int]] = defaultdict(list)
    inner: dict[int, int] = {}
    for folder in proc.glob("[0-9]*"):
        fields = _fields(folder / "status")
        if "PPid" in fields:
            pid = int(folder.name)
            children[int(fields["PPid"])].append(pid)
            ids = fields.get("NSpid", "0").split()
            inner[pid] = int(ids[-1])
    found, todo = [root], [root]
    while todo:
        below = children[todo.pop()]
        found += below
        todo += below
    levels = len(_fields(proc / str(root) / "status").get("NSpid", "").split())
    depth = {pid: len(_fields(proc / str(pid) / "status").get("NSpid", "").split()) for pid in found}
    return {pid: (inner.get(pid, 0) if depth[pid] == levels else 0, _memory_mib(proc / str(pid))) for pid in found}


def _fields(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _memory_mib(folder: Path) -> int:
    return int(_fields(folder / "smaps_rollup").get("Pss", "0 kB").split()[0]) // 1024


def print_status(status: ClusterStatus, *, as_json: bool) -> None:
    """Print a table, or JSON for programs."""
    if as_json:
        print(json.dumps(asdict(status), indent=2))
        return
    console = Console(highlight=False)
    nodes = ", ".join(f"{name} {state}" for name, state in status.nodes.items()) or "the API server does not answer"
    console.print(f"nodes: {nodes}")
    console.print(
        f"up {duration(status.uptime_seconds)}, memory {status.memory_mib} MiB, volumes {status.pool_mib} MiB on disk"
    )
    table = Table("component", "node", "state", "for", "restarts", "MiB")
    for entry in status.components:
        memory = "" if entry.memory_mib is None else str(entry.memory_mib)
        table.add_row(entry.name, entry.node, entry.state, duration(entry.uptime_seconds), str(entry.restarts), memory)
    console.print(table)


def duration(seconds: int) -> str:
    """Return a length of time for people: 1h02m, 3m04s, 5s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
