"""The rows of the table, what is judged of them, and the command that prints them."""

from dataclasses import replace

import pytest

from headroom.simulation.__main__ import main
from headroom.simulation.goals import GOALS, TUNED_KEDA, Judgement, compare, judge
from headroom.simulation.shapes import Kind
from headroom.simulation.table import HEADROOM, Result, Row, make_cases, make_rows, play_all
from headroom.simulation.traps import BY_NAME
from tests.unit.simulation.make import make_shape
from tools import simulate

CALM = Result(
    highest_lag=20,
    late_seconds=0,
    cost_ratio=1.1,
    changes=4,
    reversals_per_hour=1,
    highest_workers=30,
    cut=0,
    samples={"cost": (1.0, 1.2)},
)
LATE = replace(CALM, highest_lag=50, late_seconds=100)


def make_row(kind: Kind, ours: Result, keda: Result = LATE, mean_workers: float = 20, most: int | None = None) -> Row:
    shape = make_shape(kind=kind, most_workers=most)
    return Row(shape, 5.0, 30.0, {HEADROOM: ours, TUNED_KEDA: keda}, mean_workers)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a load that is played in a moment."""
    monkeypatch.setitem(BY_NAME, "small", make_shape(rate=2, name="small", duration=200, start_workers=3))
    return "small"


def missed(row: Row) -> list[str]:
    return [judgement.goal.name for judgement in judge([row]) if not judgement.is_met]


@pytest.mark.parametrize(
    ("kind", "ours", "expected"),
    [
        (Kind.SMOOTH, CALM, []),
        (Kind.SMOOTH, replace(CALM, cost_ratio=1.16), ["cost"]),
        (Kind.SMOOTH, replace(CALM, reversals_per_hour=2.5), ["reversals"]),
        (Kind.SMOOTH, replace(CALM, highest_lag=49, late_seconds=99), []),
        (Kind.SMOOTH, replace(CALM, highest_lag=51, late_seconds=101), ["late", "lag"]),
        (Kind.BURST, replace(CALM, cost_ratio=1.49, reversals_per_hour=9), []),
        (Kind.LONG, replace(CALM, cost_ratio=1.51), ["cost"]),
        (Kind.FAULT, replace(CALM, cost_ratio=9), []),
        (Kind.START, replace(CALM, highest_lag=90, late_seconds=200), []),
    ],
)
def test_a_kind_of_load_has_its_goals(kind: Kind, ours: Result, expected: list[str]) -> None:
    assert missed(make_row(kind, ours)) == expected


def test_with_few_workers_a_smooth_load_has_no_goal_for_its_cost() -> None:
    assert missed(make_row(Kind.SMOOTH, replace(CALM, cost_ratio=2), mean_workers=9)) == []


def test_a_lag_within_the_target_is_not_late_however_early_keda_is() -> None:
    assert missed(make_row(Kind.BURST, replace(CALM, highest_lag=29), keda=replace(CALM, highest_lag=2))) == []


def test_a_useless_count_is_a_miss() -> None:
    assert missed(make_row(Kind.FAULT, CALM, most=30)) == []
    assert missed(make_row(Kind.FAULT, CALM, most=29)) == ["workers"]


def test_known_misses_must_be_no_worse_and_no_longer_than_true() -> None:
    row = make_row(Kind.SMOOTH, replace(CALM, cost_ratio=1.2))
    judgements = list(judge([row]))
    key = "test/start-5/target-30/cost"
    assert compare(judgements, {key: 1.2}) == []
    assert compare(judgements, {}) == [f"{key} is missed: 1.20, the goal is 1.15"]
    assert compare(judgements, {key: 1.16}) == [f"{key} is worse: 1.20 (was 1.16), the goal is 1.15"]
    calm = list(judge([make_row(Kind.SMOOTH, CALM)]))
    assert compare(calm, {key: 1.2}) == [f"{key} is met by now: 1.10 (was 1.20)"]


def test_rows_have_the_worst_lag_and_the_mean_cost_of_their_seeds(small: str) -> None:
    cases = make_cases([small], seeds=2, start_delays=[5.0])
    played = play_all(cases)
    (row,) = make_rows(cases, played)
    ours = [entry.figures[HEADROOM] for entry in played]
    assert row.results[HEADROOM].highest_lag == max(figures.highest_lag for figures in ours)
    costs = [figures.worker_seconds / entry.optimum_seconds for figures, entry in zip(ours, played, strict=True)]
    assert row.results[HEADROOM].cost_ratio == pytest.approx(sum(costs) / 2)
    assert row.results[HEADROOM].samples["cost"] == pytest.approx(costs)
    assert set(row.results) == {HEADROOM, "KEDA K", "KEDA K/3"}


def test_a_shape_with_a_target_of_its_own_comes_once_for_each_start_delay() -> None:
    cases = make_cases(["hour-jobs", "steady"], seeds=1, start_delays=[5.0, 30.0], targets=[5.0, 30.0])
    found = [(case.shape.name, case.start_delay_seconds, case.target) for case in cases]
    assert found.count(("hour-jobs", 5.0, 300)) == 1
    assert len(found) == 6


def test_the_command_prints_a_table_or_the_passes(capsys: pytest.CaptureFixture[str], small: str) -> None:
    options = ["--shape", small, "--seeds", "1"]
    assert main([*options, "--quick"]) == 0
    table = capsys.readouterr().out
    assert small in table
    assert "Headroom" in table
    assert main([*options, "--trace", "--every", "600"]) == 0
    assert "backlog" in capsys.readouterr().out


def test_the_page_has_a_row_for_each_load_and_says_what_is_missed() -> None:
    judgements = [
        Judgement("steady/start-5/target-30/cost", GOALS[0], 1.3, 1.15),
        Judgement("step/start-5/target-30/cost", GOALS[0], 1.1, 1.15),
    ]
    listed = [
        Row(shape, delay, shape.target_lag or target, {HEADROOM: CALM, TUNED_KEDA: LATE}, 20)
        for shape in simulate.LISTED
        for delay in simulate.START_DELAYS
        for target in simulate.TARGETS
    ]
    results = {"commit": "abc1234", "machine": {"cores": 2, "memoryGiB": 23.5, "kernel": "6.18.44-fc-v669"}}
    page = simulate.describe_page(listed, judgements, 3, simulate.describe_origin(results))
    assert "Played at commit abc1234 on a machine with 2 cores, 23.5 GiB and Linux 6.18.44" in page
    for shape in simulate.LISTED:
        assert f"| {shape.title} |" in page
        assert f"| {shape.name} |" in page
    assert "1 of 2 goals are met" in page
    assert "* steady, start delay 5 s, target lag 30 s: cost 1.300, the goal is 1.15" in page
