"""The trade-off: which values are played, how one is set and put back, and what becomes of the plays."""

from dataclasses import replace
from pathlib import Path

import pytest

from headroom.policy.workerpool import constants, limits_of, staffing
from headroom.simulation.run import Figures
from headroom.simulation.scalers import make_spec
from tools.trade_off import (
    LEVERS,
    LOADS,
    TARGETS,
    WINDOW,
    Task,
    describe_table,
    make_curves,
    make_point,
    make_tasks,
    replaced,
    with_window,
)
from tools.trade_off_picture import ROWS, Curve, Point, draw, pick_colors

MARGIN, LOAD = "MOST_UTILIZATION", "steady"


def make_figures(worker_seconds: float = 110.0, late: float = 0.0, lag: float = 5.0, reversals: float = 1.0) -> Figures:
    return Figures(
        highest_lag=lag,
        late_seconds=late,
        worker_seconds=worker_seconds,
        changes=0,
        reversals_per_hour=reversals,
        highest_workers=1,
        cut=0,
    )


def slots(load: float) -> int:
    return staffing.slots_for(load, 1.0, 30.0)


def test_another_value_counts_where_the_policy_uses_it_and_only_until_the_end() -> None:
    before = slots(80.0)
    with replaced(MARGIN, 0.5):
        assert (slots(80.0), constants.MOST_UTILIZATION) == (160, 0.5)
    assert slots(80.0) == before == 85


def test_a_play_that_fails_leaves_the_chosen_value() -> None:
    with pytest.raises(ZeroDivisionError), replaced(MARGIN, 0.0):
        slots(80.0)
    assert slots(80.0) == 85


def test_a_constant_that_no_module_uses_is_an_error() -> None:
    with pytest.raises(LookupError, match="PROBE_HOURS"), replaced("PROBE_HOURS", 1.0):
        pass


def test_the_window_is_set_in_the_spec() -> None:
    shape = Task(LOAD, 1).case().shape
    changed = with_window(shape, 60.0)
    assert limits_of(make_spec(changed, 30.0)).down_window_seconds == 60.0
    assert limits_of(make_spec(shape, 30.0)).down_window_seconds == LEVERS[WINDOW].chosen == 300.0
    assert Task(LOAD, 1, WINDOW, 60.0).case().shape.options == changed.options


def test_the_chosen_values_are_played_once_for_all_levers() -> None:
    tasks = make_tasks(2)
    runs = 2 * sum(len(loads) for loads in LOADS.values())
    assert sum(task.lever is None for task in tasks) == runs
    assert len(set(tasks)) == len(tasks) == runs * (1 + sum(len(lever.others) for lever in LEVERS.values()))
    assert not [task for task in tasks if task.lever and task.value == LEVERS[task.lever].chosen]


def test_a_point_has_the_worst_lag_and_means_of_the_rest() -> None:
    runs = [(make_figures(110.0, 0.0, 5.0, 1.0), 100.0), (make_figures(260.0, 9.0, 40.0, 4.0), 200.0)]
    assert make_point(0.9, runs, is_chosen=True) == Point(0.9, pytest.approx(1.2), 4.5, 40.0, 2.5, is_chosen=True)


def test_each_lever_has_a_curve_for_each_target_and_load_and_one_for_all() -> None:
    played = {task: make_figures(lag=task.value + task.target) for task in make_tasks(1)}
    curves = make_curves(played, {task: 100.0 for task in played if task.lever is None})
    assert [(curve.lever, curve.target, curve.load) for curve in curves] == [
        (lever, target, load) for lever in LEVERS for target in TARGETS for load in (None, *LOADS[target])
    ]
    for curve in curves:
        lever = LEVERS[curve.lever]
        assert [point.value for point in curve.points] == lever.values
        assert [point.value for point in curve.points if point.is_chosen] == [lever.chosen]
        lags = {point.value: point.highest_lag for point in curve.points}
        assert lags == {value: curve.target + (value != lever.chosen) * value for value in lever.values}


@pytest.fixture
def curve() -> Curve:
    """Five values of which the fourth is the chosen one."""
    points = [Point(0.1 * n, 1.3 - 0.1 * n, n, 10.0 * n, 0.5, is_chosen=n == 4) for n in range(1, 6)]
    return Curve(MARGIN, "a margin", TARGETS[0], None, tuple(points))


def test_the_table_has_the_chosen_value_between_its_neighbors(curve: Curve) -> None:
    hard = replace(curve, target=TARGETS[1], points=tuple(replace(point, late_seconds=99) for point in curve.points))
    assert describe_table([curve, hard, replace(curve, load=LOAD, points=())])[2:] == [
        "| `MOST_UTILIZATION` 0.3 | 1.00 | 3.0 | 30 | 0.5 | 1.00 | 99.0 |",
        "| **`MOST_UTILIZATION` 0.4** | 0.90 | 4.0 | 40 | 0.5 | 0.90 | 99.0 |",
        "| `MOST_UTILIZATION` 0.5 | 0.80 | 5.0 | 50 | 0.5 | 0.80 | 99.0 |",
    ]


def test_the_picture_is_written(curve: Curve, tmp_path: Path) -> None:
    curves = [replace(curve, target=target, load=load) for target in TARGETS for load in (None, LOAD)]
    assert draw(curves, tmp_path / "images" / "trade-off.png").read_bytes().startswith(b"\x89PNG")


def test_a_load_has_its_color_in_each_panel(curve: Curve) -> None:
    curves = [replace(curve, target=target, load=load) for target in TARGETS for load in (None, *LOADS[target])]
    colors = pick_colors(curves)
    assert set(colors) == {None, *LOADS[TARGETS[0]]}
    assert len(set(colors.values())) == len(colors)


def test_the_picture_has_the_targets_that_are_played() -> None:
    assert {target for _, target, _ in ROWS} == set(TARGETS)
