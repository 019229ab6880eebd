"""Every load reaches its goals, or is a known miss that is no worse than its figure.

`make simulate ACCEPT=1` writes the known misses again; it plays other start delays and targets as well.
"""

import json

import pytest

from headroom.simulation.goals import compare, judge
from headroom.simulation.table import make_cases, make_rows, play_all
from headroom.simulation.traps import BY_NAME
from tools.simulate import FIRST, MISSES, SLOW_TRAPS, START_DELAYS

SUDDEN = ("flash", "idle-burst", "due-at-once", "step", "race")
"""Loads in which the time that a worker takes to start matters most."""
KNOWN: dict[str, float] = json.loads(MISSES.read_text())


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_load_reaches_its_goals_or_is_a_known_miss(name: str) -> None:
    delay, target = FIRST
    cases = make_cases([name], seeds=3, start_delays=[delay], targets=[target])
    judgements = list(judge(make_rows(cases, play_all(cases))))
    assert compare(judgements, KNOWN) == []


@pytest.mark.timeout(900)
@pytest.mark.parametrize("delay", START_DELAYS[1:])
@pytest.mark.parametrize("name", [*SUDDEN, *SLOW_TRAPS])
def test_a_load_that_comes_suddenly_reaches_its_goals_with_slow_starts_too(name: str, delay: float) -> None:
    cases = make_cases([name], seeds=3, start_delays=[delay], targets=FIRST[1:])
    judgements = list(judge(make_rows(cases, play_all(cases))))
    assert judgements
    assert compare(judgements, KNOWN) == []
