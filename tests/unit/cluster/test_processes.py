"""Real short-lived processes: order, restart, backoff, and what is told of them."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.components import Component
from e2e.cluster.processes import ProcessTable

PATIENCE_SECONDS = 10.0


def shell(name: str, script: str, *, ready: str = "exit", after: tuple[str, ...] = ()) -> Component:
    return Component(name, ("sh", "-c", script), ready=ready, after=after)


def step_until(table: ProcessTable, is_done: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        table.step()
        found = {entry["name"]: entry for entry in table.describe()}
        if is_done(found):
            return found
        time.sleep(0.005)
    pytest.fail(f"not reached: {table.describe()}")


def end_servers(table: ProcessTable) -> None:
    for entry in table.describe():
        if entry["pid"]:
            os.kill(entry["pid"], signal.SIGKILL)
            os.waitpid(entry["pid"], 0)


def test_a_task_waits_for_what_it_needs(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path, lambda _check: True)
    trace = tmp_path / "trace"
    table.add(
        [
            shell("second", f"echo second >> {trace}", after=("first",)),
            shell("first", f"sleep 0.05; echo first >> {trace}"),
        ]
    )
    step_until(table, lambda found: found["second"]["state"] == "ready")
    assert trace.read_text().split() == ["first", "second"]
    assert table.is_calm()


def test_a_server_is_ready_when_its_probe_says_so(tmp_path: Path) -> None:
    answers = [False, False, True]
    table = ProcessTable(tmp_path, lambda _check: answers.pop(0))
    table.add([shell("server", "exec sleep 60", ready="http://x")])
    for _ in range(3):
        table.step()
        assert table.describe()[0]["state"] == "starting"
    table.step()
    assert table.describe()[0]["state"] == "ready"
    end_servers(table)


def test_a_server_that_dies_is_started_again(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path, lambda _check: True)
    table.add([shell("server", "exec sleep 60", ready="running")])
    first = step_until(table, lambda found: found["server"]["state"] == "ready")["server"]["pid"]
    os.kill(first, signal.SIGKILL)
    again = step_until(table, lambda found: found["server"]["pid"] not in {0, first})["server"]
    assert again["failures"] == 1
    end_servers(table)


def test_a_failing_task_is_tried_again_after_a_pause(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path, lambda _check: True)
    mark = tmp_path / "mark"
    table.add([shell("task", f"test -e {mark} || {{ touch {mark}; exit 3; }}")])
    started = time.monotonic()
    found = step_until(table, lambda found: found["task"]["state"] == "ready")["task"]
    assert found["failures"] == 1
    assert time.monotonic() - started >= 0.4


def test_what_a_component_prints_is_in_its_log(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path, lambda _check: True)
    table.add([shell("task", "echo out; echo err >&2")])
    step_until(table, lambda found: found["task"]["state"] == "ready")
    assert (tmp_path / "task.log").read_text().split() == ["out", "err"]
