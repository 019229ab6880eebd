"""What all tests share."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import settings

# What is slow on a busy machine is not wrong, so that nothing here has a deadline. A change is judged by the same
# examples each time; `make fuzz` looks for new ones.
settings.register_profile("quick", max_examples=30, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=200, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=500, deadline=None)
settings.load_profile("quick")

LONG = (
    "unit/composition",
    "unit/crashes",
    "unit/invariants/test_right_operator.py",
    *(
        f"unit/reconcilers/replicaset/test_{name}.py"
        for name in (
            "activation",
            "autoscaling",
            "clock_steps",
            "failover",
            "faults",
            "full_member",
            "installations",
            "lag_readings",
            "libraries",
            "life",
            "reads",
            "retention",
            "short_silences",
            "stale_takeover",
            "stream_loss",
            "synchronous",
            "teardown",
            "tls",
            "unreachable",
            "wal_cap",
            "writes",
        )
    ),
    *(f"unit/reconcilers/databaseguard/test_{name}.py" for name in ("sessions", "shared_budget", "sweep")),
    *(f"unit/policy/workerpool/test_{name}.py" for name in ("connection_loop", "effectiveness", "forecast", "loop")),
    *(f"unit/simulation/test_{name}.py" for name in ("goals", "over_time")),
    *(
        f"unit/reconcilers/workerpool/test_{name}.py"
        for name in ("bad_input", "blind", "life", "modes", "reads", "rivals", "terminating", "victims")
    ),
)
"""Tests that play minutes or hours of a whole world: part of `make test`, and too long for `make check`."""


def pytest_configure() -> None:
    """Say that there is no event loop yet: else pytest-asyncio's look for one makes one that nobody closes."""
    asyncio.set_event_loop(None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the long ones by their place, so that the list of them is read in one place."""
    tests = Path(__file__).parent
    long = tuple(tests / part for part in LONG)
    for item in items:
        if any(item.path == place or place in item.path.parents for place in long):
            item.add_marker(pytest.mark.long)
