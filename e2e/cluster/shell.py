"""Running other programs, with their failure told in one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from e2e.cluster.errors import ClusterError


def run(
    arguments: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = subprocess.DEVNULL,
    text: str | None = None,
) -> str:
    """Return the standard output of a program that must succeed."""
    result = subprocess.run(
        [str(argument) for argument in arguments],
        env=env,
        cwd=cwd,
        stdin=stdin if text is None else None,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise ClusterError(describe_failure(arguments, result.returncode, result.stderr or result.stdout))
    return result.stdout


def run_through(cluster: str, command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command with our own input and output; it finds the same cluster again by HEADROOM_CLUSTER."""
    sys.stdout.flush()
    return subprocess.run(command, env={**env, "HEADROOM_CLUSTER": cluster}, check=False).returncode


def stream(
    arguments: Sequence[str | Path],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> None:
    """Run a program and hand over each line of its output as it comes.

    The program is ended when this process is: an interrupted build leaves nothing running.
    """
    command = ["setpriv", "--pdeathsig", "KILL", "--", *(str(argument) for argument in arguments)]
    tail: list[str] = []
    with subprocess.Popen(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-14:], line.rstrip()]
            on_line(line.rstrip())
    if process.returncode != 0:
        raise ClusterError(describe_failure(arguments, process.returncode, "\n".join(tail)))


def describe_failure(arguments: Sequence[str | Path], code: int, output: str) -> str:
    """Say which program failed, how, and the end of what it printed."""
    command = " ".join(str(argument) for argument in arguments)
    shown = command if len(command) <= 200 else command[:197] + "..."
    return f"`{shown}` ended with status {code}: {output.strip()[-2000:] or 'it printed nothing'}"
