"""The CSI conformance suite against our driver, on a pool and in namespaces of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from e2e.cluster.build import own_folder, tools_folder
from e2e.cluster.errors import ClusterError
from e2e.cluster.probes import is_answering
from e2e.cluster.roots import ALONE
from e2e.cluster.settings import REPOSITORY, load_settings
from e2e.cluster.shell import run

POOL_GIB = 4
START_SECONDS = 10.0


def run_sanity() -> int:
    """Run the suite in new namespaces; its result is the exit status."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [*ALONE, sys.executable, "-m", "e2e.cluster.sanity"]
    return subprocess.run(command, env=env, check=False).returncode


def main() -> int:
    """Make a pool, start the driver on it and test it."""
    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="csi-") as scratch:
        folder = Path(scratch)
        pool = folder / "pool"
        pool.mkdir()
        with (folder / "pool.img").open("wb") as handle:
            os.truncate(handle.fileno(), POOL_GIB * 1024**3)
        run(["mkfs.btrfs", "--quiet", folder / "pool.img"])
        run(["mount", "-o", "loop", folder / "pool.img", pool])
        try:
            return _test_driver(own_folder(settings) / "csi", tools_folder(settings) / "csi-sanity", folder)
        finally:
            run(["umount", pool])


def _test_driver(driver: Path, suite: Path, folder: Path) -> int:
    socket = folder / "csi.sock"
    command: list[str | Path] = [driver, f"--pool={folder / 'pool'}", f"--socket={socket}", "--node-id=n1"]
    with (folder / "driver.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            _wait_for(socket)
            arguments = [
                f"--csi.endpoint=unix://{socket}",
                f"--csi.mountdir={folder / 'mount'}",
                f"--csi.stagingdir={folder / 'staging'}",
                f"--csi.testvolumesize={1024**3}",
            ]
            status = subprocess.run([suite, "--ginkgo.no-color", *arguments], check=False).returncode
            print(
                "skipped: what the driver does not offer (expansion, attaching, staging, modification, volume groups)"
            )
            return status
        finally:
            process.terminate()


def _wait_for(socket: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_answering(f"socket:{socket}"):
        if time.monotonic() > deadline:
            raise ClusterError("The CSI driver does not start: build it with `python -m e2e.cluster build`.")
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main())
