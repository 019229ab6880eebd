"""Compiling Kubernetes, its add-ons and our own Go programs, once for each state of their sources."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from e2e.cluster.console import Console, Step
from e2e.cluster.prerequisites import require_go
from e2e.cluster.settings import MODULE_FOLDER, Settings
from e2e.cluster.shell import run, stream

KUBERNETES_VERSION = "v1.36.3"
OWN_PROGRAMS = ("csi", "dns", "pause")
TOOL_PROGRAMS = (
    "containerd", "containerd-shim-runc-v2", "csi-provisioner", "csi-sanity", "csi-snapshotter", "ctr", "etcd", "helm",
    "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet",
    "metrics-server", "snapshot-controller",
)  # fmt: skip
SNAPSHOT_MODULE = "github.com/kubernetes-csi/external-snapshotter/client/v8"
SNAPSHOT_CRDS = ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots")


def hash_files(paths: Iterable[Path], *, base: Path) -> str:
    """Return 16 hex digits for names and contents of files, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(base)}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def tools_key(module: Path = MODULE_FOLDER) -> str:
    """Return the cache key of everything that is compiled from other people's modules."""
    return hash_files([module / "go.mod", module / "go.sum"], base=module)


def own_key(module: Path = MODULE_FOLDER) -> str:
    """Return the cache key of our own programs."""
    sources = [path for name in OWN_PROGRAMS for path in (module / name).glob("*.go")]
    return hash_files([module / "go.mod", module / "go.sum", *sources], base=module)


def tools_folder(settings: Settings) -> Path:
    """Return where the tools of this checkout are, built or not."""
    return settings.binaries / f"tools-{tools_key()}"


def own_folder(settings: Settings) -> Path:
    """Return where our own programs are, built or not."""
    return settings.binaries / f"own-{own_key()}"


def linker_flags(version: str = KUBERNETES_VERSION) -> str:
    """Return the flags that strip the programs and stamp the Kubernetes version, else nodes report v0.0.0."""
    major, minor, _ = version.removeprefix("v").split(".")
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    package = "k8s.io/component-base/version"
    return " ".join(["-s", "-w", *(f"-X {package}.{key}={value}" for key, value in stamps.items())])


def build_binaries(settings: Settings, console: Console) -> None:
    """Compile what is not in the cache yet; an interrupted build goes on where Go's own cache ends."""
    tools, own = tools_folder(settings), own_folder(settings)
    if not tools.exists():
        _install(tools, ["tool"], console, title="building Kubernetes and its add-ons")
    if not own.exists():
        _install(own, [f"./{name}" for name in OWN_PROGRAMS], console, title="building the CSI driver and DNS")


def _install(target: Path, packages: list[str], console: Console, *, title: str) -> None:
    go = require_go()
    draft = target.with_name(target.name + ".partial")
    is_resumed = draft.exists()
    draft.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "CGO_ENABLED": "0", "GOBIN": str(draft), "GOFLAGS": "-mod=readonly"}
    programs = len(TOOL_PROGRAMS) if packages == ["tool"] else len(packages)
    with console.step(title) as step:
        total, done = _count_packages(go, packages, env, step, is_resumed=is_resumed), 0

        def on_line(line: str) -> None:
            nonlocal done
            done += 1
            linked = sum(1 for path in draft.iterdir() if os.access(path, os.X_OK))
            step.update(done, total, f"packages, {linked}/{programs} programs, now {line}")

        command: list[str | Path] = [go, "install", "-v", "-trimpath", "-ldflags", linker_flags(), *packages]
        stream(command, on_line, env=env, cwd=MODULE_FOLDER)
        if packages == ["tool"]:
            (draft / "server").rename(draft / "etcd")
            _copy_crds(go, draft)
    draft.rename(target)


def _count_packages(go: Path, packages: list[str], env: Mapping[str, str], step: Step, *, is_resumed: bool) -> int:
    """Return how many packages are to be compiled; the modules are downloaded on the way.

    Which ones are left costs Go a while to find out: that is only worth it after an interruption.
    """
    listed, downloaded = 0, 0

    def on_line(line: str) -> None:
        nonlocal listed, downloaded
        if line.startswith("go: "):
            downloaded += 1
            step.update(downloaded, 0, "modules, " + line.removeprefix("go: "))
        elif line:
            listed += 1

    chosen = ["-trimpath", "-f", "{{if .Stale}}{{.ImportPath}}{{end}}"] if is_resumed else []
    stream([go, "list", "-deps", *chosen, *packages], on_line, env=env, cwd=MODULE_FOLDER)
    return listed


def _copy_crds(go: Path, target: Path) -> None:
    folder = Path(run([go, "list", "-m", "-f", "{{.Dir}}", SNAPSHOT_MODULE], cwd=MODULE_FOLDER).strip())
    for name in SNAPSHOT_CRDS:
        shutil.copyfile(folder / "config" / "crd" / f"snapshot.storage.k8s.io_{name}.yaml", target / f"crd-{name}.yaml")


def drop_old_builds(settings: Settings) -> None:
    """Delete the programs of other states of the sources, the newest two of each kind excepted."""
    for kind in ("tools", "own"):
        folders = sorted(settings.binaries.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in folders[2:]:
            shutil.rmtree(folder)
