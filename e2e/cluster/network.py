"""Mounts, addresses and kernel settings of the box. Everything here happens in namespaces of its own."""

from __future__ import annotations

import os
from pathlib import Path

from e2e.cluster.layout import BOX_RUN, BRIDGE, NODE_PREFIX, POOL_MOUNT, Node
from e2e.cluster.settings import Settings
from e2e.cluster.shell import run

# The kubelet sets these for the whole machine when they differ: it is shown files that already agree.
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
KUBELET_CONTROLLERS = frozenset({"cpu", "cpuset", "hugetlb", "io", "memory", "pids"})
CNI_STATE = Path("/var/lib/cni")
HIDDEN_FOLDERS = (Path("/var/log"), CNI_STATE)


def set_up_box(settings: Settings) -> None:
    """Make the mounts and the network of the first node."""
    _join_own_cgroup(settings.cgroup("box"))
    run(["mount", "--make-rshared", "/"])
    run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
    BOX_RUN.mkdir()
    for folder in HIDDEN_FOLDERS:
        folder.mkdir(exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])
    _shield_sysctls()
    _mount_pool(settings)
    run(["hostname", "n1"])
    run(["ip", "link", "set", "lo", "up"])
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", f"{Node('n1').address}/{NODE_PREFIX}", "dev", BRIDGE])
    run(["ip", "link", "set", BRIDGE, "up"])
    run(["ip", "route", "add", "default", "dev", BRIDGE])
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _join_own_cgroup(name: str) -> None:
    """Leave the cgroup of whoever started the cluster: its limits and its end are not ours."""
    make_cgroups(name)
    for hierarchy in cgroup_hierarchies():
        (hierarchy / name / "cgroup.procs").write_text("0")


def _shield_sysctls() -> None:
    folder = BOX_RUN / "sysctl"
    for name, value in KUBELET_SYSCTLS.items():
        shown = folder / name
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.write_text(value + "\n")
        run(["mount", "--bind", shown, Path("/proc/sys") / name])


def _mount_pool(settings: Settings) -> None:
    pool = settings.pool_file
    with pool.open("wb") as handle:
        os.truncate(handle.fileno(), settings.pool_gib * 1024**3)
    run(["mkfs.btrfs", "--quiet", "--data", "single", "--metadata", "single", pool])
    POOL_MOUNT.mkdir()
    run(["mount", "-o", "loop,noatime,discard=async", pool, POOL_MOUNT])


def add_node_network(node: Node) -> None:
    """Give a further node a network namespace on the bridge, with routes both ways."""
    inside = ("nsenter", f"--net=/run/netns/{node.name}", "--")
    first = Node("n1")
    run(["ip", "netns", "add", node.name])
    run(["ip", "link", "add", node.name, "type", "veth", "peer", "name", "eth0", "netns", node.name])
    run(["ip", "link", "set", node.name, "master", BRIDGE, "up"])
    run([*inside, "ip", "link", "set", "lo", "up"])
    run([*inside, "ip", "address", "add", f"{node.address}/{NODE_PREFIX}", "dev", "eth0"])
    run([*inside, "ip", "link", "set", "eth0", "up"])
    run([*inside, "ip", "route", "add", "default", "via", first.address])
    run([*inside, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    run(["ip", "route", "add", node.pod_subnet, "via", node.address])


def make_cgroups(name: str, root: Path = Path("/sys/fs/cgroup")) -> None:
    """Make the cgroup above a node's pods, in each hierarchy of cgroup v1 or in the one of v2."""
    _hand_down_controllers(root)
    for hierarchy in cgroup_hierarchies(root):
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            source = hierarchy / setting
            if source.exists() and (folder / setting).exists():
                (folder / setting).write_text(source.read_text())


def _hand_down_controllers(root: Path) -> None:
    """Let cgroups of v2 have the controllers that the kubelet asks for; v1 has no such setting."""
    offered, handed_down = root / "cgroup.controllers", root / "cgroup.subtree_control"
    if not offered.exists():
        return
    lacking = KUBELET_CONTROLLERS & set(offered.read_text().split()) - set(handed_down.read_text().split())
    if lacking:
        handed_down.write_text(" ".join(f"+{name}" for name in sorted(lacking)))


def cgroup_hierarchies(root: Path = Path("/sys/fs/cgroup")) -> list[Path]:
    """Return the mount points below which cgroups are made."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.is_symlink()]
