"""The reference that knows the future: its curve, its limits, and its distance from the true minimum."""

from itertools import accumulate, pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.policy.workerpool import ScalingLimits
from headroom.simulation import optimum
from headroom.simulation.load import draw_load
from headroom.simulation.optimum import Grid, find_needs, find_optimum, follow_limits, pull_string
from headroom.simulation.shapes import Shape
from tests.unit.simulation.make import make_batch, make_shape


def make_grid(cells: int, limits: ScalingLimits, start_delay: float = 0.0) -> Grid:
    """A grid of seconds."""
    most = (float(limits.max_workers),) * cells
    speeds = (1.0,) * cells
    return Grid(limits=limits, since=0, seconds=1, speeds=speeds, most=most, slots=1, start_delay=start_delay)


def limits_for(**parts: float) -> ScalingLimits:
    defaults = {"min_workers": 0, "max_workers": 100, "target_lag_seconds": 30, "down_window_seconds": 300}
    return ScalingLimits(**{**defaults, **parts})  # type: ignore[arg-type]


def plan_for(shape: Shape, start_delay: float = 5.0, **parts: float) -> optimum.Plan:
    limits = limits_for(**{"max_workers": shape.max_workers, "min_workers": shape.min_workers, **parts})
    return find_optimum(shape, draw_load(shape, 1), limits, start_delay_seconds=start_delay)


corridors = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), min_size=2, max_size=30)


@given(corridors)
def test_the_string_stays_in_its_corridor_and_is_the_shortest(corridor: list[tuple[float, float]]) -> None:
    lower = list(accumulate(step for step, _ in corridor))
    upper = [
        max(low, *lower[: index + 1]) + width
        for index, (low, (_, width)) in enumerate(zip(lower, corridor, strict=True))
    ]
    clock = [float(index) for index in range(len(lower))]
    values = pull_string(clock, lower, upper)
    assert values[0] == lower[0]
    assert values[-1] == pytest.approx(lower[-1])
    assert all(low - 1e-6 <= value <= high + 1e-6 for low, value, high in zip(lower, values, upper, strict=True))
    for index in range(1, len(values) - 1):
        bend = (values[index + 1] - values[index]) - (values[index] - values[index - 1])
        # It bends only where it touches: up at the upper edge is impossible, and down at the lower edge.
        if bend > 1e-6:
            assert values[index] == pytest.approx(upper[index], abs=1e-6)
        if bend < -1e-6:
            assert values[index] == pytest.approx(lower[index], abs=1e-6)


def test_a_steady_load_needs_as_many_workers_as_it_keeps_busy() -> None:
    plan = plan_for(make_shape(rate=20, duration=3600, job_seconds=0.5))
    assert plan.worker_seconds / 3600 == pytest.approx(10, rel=0.05)
    assert max(plan.counts) < 12


def test_a_batch_is_spread_over_the_target_lag_and_its_workers_stay_for_a_window() -> None:
    plan = plan_for(
        make_shape(batches=make_batch(300, at=100), is_constant=True, min_workers=0), down_window_seconds=60
    )
    peak = max(plan.counts)
    assert peak == pytest.approx(10, rel=0.2)  # 300 s of work in 30 s
    held = [index * plan.grid_seconds for index, count in enumerate(plan.counts) if count > 0.99 * peak]
    assert held[-1] - held[0] == pytest.approx(30 + 60, abs=2 * plan.grid_seconds)


def test_what_max_workers_cannot_do_in_time_is_done_as_soon_as_they_can() -> None:
    shape = make_shape(batches=make_batch(1000, at=100), is_constant=True, max_workers=5)
    plan = plan_for(shape, down_window_seconds=0)
    assert max(plan.counts) == pytest.approx(5)
    assert sum(count == pytest.approx(5) for count in plan.counts) * plan.grid_seconds == pytest.approx(200, abs=10)


def test_a_long_job_is_not_divided_among_workers() -> None:
    shape = make_shape(batches=make_batch(1, at=100), is_constant=True, job_seconds=300.0, min_workers=0)
    assert max(plan_for(shape).counts) == pytest.approx(1, abs=0.1)


def test_a_lock_or_a_full_database_makes_more_workers_useless() -> None:
    locked = make_shape(rate=30, duration=1200, job_seconds=0.9, locked_seconds=0.1)
    assert max(plan_for(locked).counts) == pytest.approx(10)
    full = make_shape(rate=30, duration=1200, cores=7)
    assert max(plan_for(full).counts) == pytest.approx(7)


def test_a_slow_database_needs_more_workers_for_the_same_work() -> None:
    plan = plan_for(make_shape(rate=8, duration=1800, slow=((600, 1200, 0.2),)), down_window_seconds=0)
    middle = plan.counts[round(900 / plan.grid_seconds)]
    assert middle == pytest.approx(40, rel=0.2)


def test_growth_begins_early_enough_for_its_steps_and_shrinkage_is_stepped() -> None:
    limits = limits_for(down_window_seconds=2, down_step_percent=20)
    needs = [1.0] * 60 + [80.0] * 60 + [1.0] * 200
    counts = follow_limits(make_grid(320, limits, start_delay=1.0), needs)
    assert all(after <= max(2 * before, before + 4) + 1e-9 for before, after in pairwise(counts))
    assert counts[59] >= 40
    falls = [(before, after) for before, after in zip(counts, counts[30:], strict=False) if after < before]
    assert all(after >= before - max(1.0, 0.2 * before) - 1e-9 for before, after in falls if before <= 80)


def test_a_start_costs_its_delay() -> None:
    shape = make_shape(batches=make_batch(60, at=300), is_constant=True, min_workers=0)
    quick, slow = (plan_for(shape, start_delay=delay, down_window_seconds=0) for delay in (0.0, 30.0))
    assert slow.worker_seconds - quick.worker_seconds == pytest.approx(30 * max(slow.counts), rel=0.2)


def test_a_run_that_begins_with_nothing_cannot_do_more_than_its_first_workers() -> None:
    shape = make_shape(rate=20, duration=600, start_workers=1)
    limits = limits_for(min_workers=1)
    grid = Grid.of(shape, limits, 30.0, 5.0)
    assert grid.most[:6] == (1.0,) * 6
    assert grid.most[6] == 5.0
    assert max(grid.most) == 100


def brute_force(came: list[int], limits: ScalingLimits) -> int | None:
    """The fewest worker-seconds of all plans in whole workers: each second, so many of them are busy.

    The same rules: a worker may go after a window in which it was not busy, and then in steps.
    """
    most, window = limits.max_workers, round(limits.down_window_seconds)
    delay, cells = round(limits.target_lag_seconds), len(came) - 1
    served = [0]
    for total in came[1:]:
        served.append(min(total, served[-1] + most))
    due = [min(came[max(0, index - delay)], served[index]) for index in range(cells + 1)]
    due[-1] = served[-1]
    states: dict[tuple[tuple[int, ...], int, int], int] = {((), 0, 0): 0}
    for cell in range(1, cells + 1):
        following: dict[tuple[tuple[int, ...], int, int], int] = {}
        for (recent, count, done), cost in states.items():
            for busy in range(min(most, came[cell] - done) + 1):
                held = max((*recent, busy, count - max(1, count // 5)))
                if done + busy >= due[cell] and (cell == 1 or held <= max(2 * count, count + 4)):
                    state = ((*recent, busy)[max(0, len(recent) + 1 - window) :], held, done + busy)
                    following[state] = min(following.get(state, 10**9), cost + held)
        states = following
    return min(states.values(), default=None)


def test_the_plan_is_close_to_the_minimum_where_all_plans_can_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimum, "DOWN_STEP_SECONDS", 1.0)
    ratios = []
    for seed in range(25):
        chance = Random(seed)
        arrivals = [chance.choice((0, 0, 1, 1, 2, 3, 9)) for _ in range(9)] + [0, 0, 0]
        limits = limits_for(
            max_workers=6, target_lag_seconds=chance.choice((1, 2, 3)), down_window_seconds=chance.choice((1, 2, 3))
        )
        came = list(accumulate(arrivals, initial=0))
        least = brute_force(came, limits)
        grid = make_grid(len(arrivals), limits)
        plan = follow_limits(grid, find_needs(grid, [float(total) for total in came[1:]]))
        assert least is not None
        ratios.append(sum(plan) / least)
    # Below 1 where half a worker is enough, which the plan can have and the minimum cannot.
    assert 0.9 < sum(ratios) / len(ratios) < 1.0
    assert max(ratios) < 1.08
