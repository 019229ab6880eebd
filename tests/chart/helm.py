"""The real helm, run over the chart of this checkout."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.settings import load_settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "headroom"
VALUES = Path(__file__).parent / "values"
GOLDEN = Path(__file__).parent / "golden"
NAMES = ("default", "namespaces", "everything")


class HelmError(Exception):
    """What helm wrote to its standard error."""


def find_helm() -> str:
    """Path of helm: $HELM, else the one on PATH, else the one built for the bundled cluster."""
    built = sorted(load_settings().binaries.glob("*/helm"), key=lambda path: path.stat().st_mtime)
    found = os.environ.get("HELM") or shutil.which("helm") or (str(built[-1]) if built else None)
    if found is None:
        message = "helm is not here: run `make cluster-up`, which builds it, or set HELM to its path"
        raise HelmError(message)
    return found


def run_helm(*arguments: str) -> str:
    """Standard output of helm; raises HelmError with what it complained about."""
    done = subprocess.run([find_helm(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HelmError(done.stderr or done.stdout)
    return done.stdout


def render(*arguments: str, with_crds: bool = False) -> str:
    """What `helm install headroom -n headroom` would send, hooks included; CRDs only when asked for."""
    crds = () if with_crds else ("--set", "crds.install=false")
    return run_helm("template", "headroom", str(CHART), "--namespace", "headroom", *crds, *arguments)


def render_named(name: str) -> str:
    """The chart with one of the value sets in `values/`."""
    return render("--values", str(VALUES / f"{name}.yaml"))


def parse(text: str) -> list[dict[str, Any]]:
    """The objects of a rendered chart."""
    return [found for found in yaml.safe_load_all(text) if found]


def write_golden() -> None:
    """Render every value set anew; run as `python -m tests.chart.helm`."""
    GOLDEN.mkdir(exist_ok=True)
    for name in NAMES:
        (GOLDEN / f"{name}.yaml").write_text(render_named(name))


if __name__ == "__main__":
    write_golden()
