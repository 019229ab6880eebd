"""`python -m tools.trade_off`: what the chosen values of the worker policy trade, as curves.

A handful of loads is played with one value at a time set to others than the chosen one, at the first start delay of
`tools.simulate` and two target lags: the longer one is easy to hold, the shorter one is not. Costs are divided by those
of the optimum for the chosen values, so that they compare. It writes build/results/trade-off.json,
docs/images/trade-off.png and the table of docs/explanation/measurements.md.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import product
from statistics import mean
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

from e2e.lab.results import Figure, write_results
from headroom.api.v1alpha1.workerpool import ScaleDown
from headroom.policy.workerpool import constants
from headroom.simulation.run import Case, Figures, optimum_seconds, play_headroom
from headroom.simulation.shapes import Shape
from headroom.simulation.traps import BY_NAME
from tools.simulate import FIRST, PAGE, ROOT
from tools.trade_off_picture import Curve, Point, draw

PICTURE = ROOT / "docs/images/trade-off.png"
BEGIN, END = "<!-- trade-off: begin -->\n", "<!-- trade-off: end -->\n"
LOADS = {
    FIRST[1]: ("steady", "steady-20", "step", "sine", "flash", "every-5-min"),
    5.0: ("steady", "step", "flash", "every-5-min"),
}
"""The loads of each target lag. The shorter one goes without two that take long to play and hardly show more."""
TARGETS = tuple(LOADS)
POLICY = "headroom.policy.workerpool"
WINDOW = "stabilizationWindow"


@dataclass(frozen=True, slots=True)
class Lever:
    """A value of the policy: a constant by its name, or the field of the spec that is the window of scale-down."""

    name: str
    title: str
    others: tuple[float, ...]

    @property
    def chosen(self) -> float:
        """The value that the code has."""
        if self.name == WINDOW:
            return ScaleDown().stabilization_window.total_seconds()
        return float(getattr(constants, self.name))

    @property
    def values(self) -> list[float]:
        """All values, the chosen one among them."""
        return sorted({self.chosen, *self.others})


LEVERS = {
    lever.name: lever
    for lever in (
        Lever("MOST_UTILIZATION", "Safety margin: busy share of the slots at most", (0.8, 0.9, 0.98, 1.0)),
        Lever(WINDOW, "Scale-down: its stabilization window in seconds", (60, 150, 600, 900)),
    )
}


class Task(NamedTuple):
    """One play as another process takes it; without a lever all values are the chosen ones."""

    load: str
    seed: int
    lever: str | None = None
    value: float = 0.0
    target: float = TARGETS[0]

    def play(self) -> Figures:
        """Play the load with the value of the lever."""
        is_constant = self.lever is not None and self.lever != WINDOW
        with replaced(str(self.lever), self.value) if is_constant else nullcontext():
            return play_headroom(self.case())[0]

    def case(self) -> Case:
        """The case, with the window in the spec if that is the lever."""
        shape = BY_NAME[self.load]
        shape = with_window(shape, self.value) if self.lever == WINDOW else shape
        return Case(shape=shape, seed=self.seed, start_delay_seconds=FIRST[0], target_lag_seconds=self.target)


def with_window(shape: Shape, seconds: float) -> Shape:
    """The shape of a pool with another stabilization window of scale-down; it has no other `behavior`."""
    behavior = {"scaleDown": {WINDOW: f"{seconds:g}s"}}
    return replace(shape, options={**shape.options, "behavior": behavior})


@contextmanager
def replaced(name: str, value: float) -> Iterator[None]:
    """Another value of a constant of the worker policy until the block ends; no file is edited.

    `from constants import ...` copies a name into the module that uses it, so it is replaced in each of these modules.
    """
    modules = [module for path, module in sys.modules.items() if path.startswith(f"{POLICY}.")]
    holders = [module for module in modules if hasattr(module, name)]
    if len(holders) < 2:
        raise LookupError(f"no module of {POLICY} uses {name}")
    chosen = getattr(constants, name)
    try:
        for module in holders:
            setattr(module, name, value)
        yield
    finally:
        for module in holders:
            setattr(module, name, chosen)


def make_tasks(seeds: int) -> list[Task]:
    """Every load and target at every value; the chosen values of all levers are one play."""
    changed = [(lever.name, value) for lever in LEVERS.values() for value in lever.values if value != lever.chosen]
    return [
        Task(load, seed, *change, target)
        for target in TARGETS
        for change in [(None, 0.0), *changed]
        for load, seed in product(LOADS[target], range(1, seeds + 1))
    ]


def make_point(value: float, runs: Sequence[tuple[Figures, float]], *, is_chosen: bool) -> Point:
    """The point of some runs, each with the worker-seconds of its optimum: the worst lag, and means of the rest."""
    return Point(
        value=value,
        cost=mean(figures.worker_seconds / optimum for figures, optimum in runs),
        late_seconds=mean(figures.late_seconds for figures, _ in runs),
        highest_lag=max(figures.highest_lag for figures, _ in runs),
        reversals_per_hour=mean(figures.reversals_per_hour for figures, _ in runs),
        is_chosen=is_chosen,
    )


def make_curves(played: Mapping[Task, Figures], optima: Mapping[Task, float]) -> list[Curve]:
    """For each lever and target one curve over all loads, and one for each load; optima are those of chosen values."""
    return [
        Curve(lever.name, lever.title, target, load, tuple(_make_points(lever, target, load, played, optima)))
        for lever in LEVERS.values()
        for target in TARGETS
        for load in (None, *LOADS[target])
    ]


def _make_points(
    lever: Lever, target: float, load: str | None, played: Mapping[Task, Figures], optima: Mapping[Task, float]
) -> Iterator[Point]:
    for value in lever.values:
        is_chosen = value == lever.chosen
        runs = [
            (played[run if is_chosen else run._replace(lever=lever.name, value=value)], optimum)
            for run, optimum in optima.items()
            if run.target == target and load in (None, run.load)
        ]
        yield make_point(value, runs, is_chosen=is_chosen)


def describe_table(curves: Sequence[Curve]) -> list[str]:
    """The chosen point of each lever between its neighbors, over all loads; most of it for the first target."""
    easy, hard = (f"cost, target {target:g} s | seconds above it" for target in TARGETS)
    lines = [f"| value | {easy} | highest lag, s | reversals an hour | {hard} |", "| --- |" + " --- |" * 6]
    found = {(curve.lever, curve.target): curve.points for curve in curves if curve.load is None}
    for lever in dict.fromkeys(curve.lever for curve in curves):
        points = list(zip(*(found[lever, target] for target in TARGETS), strict=True))
        at = next(index for index, (point, _) in enumerate(points) if point.is_chosen)
        for first, other in points[max(0, at - 1) : at + 2]:
            name = f"`{lever}` {first.value:g}"
            numbers = f"{first.cost:.2f} | {first.late_seconds:.1f} | {first.highest_lag:.0f}"
            rest = f"{first.reversals_per_hour:.1f} | {other.cost:.2f} | {other.late_seconds:.1f}"
            lines.append(f"| {f'**{name}**' if first.is_chosen else name} | {numbers} | {rest} |")
    return lines


def write_page(lines: Sequence[str]) -> None:
    """Replace the table between the two marks of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("".join([before, BEGIN, "\n", "\n".join(lines), "\n\n", END, after]))


def write(curves: Sequence[Curve]) -> None:
    """Write build/results/trade-off.json."""
    figures = {}
    for curve in curves:
        for point in curve.points:
            key = f"{curve.lever}={point.value:g}/{curve.load or 'all'}/target-{curve.target:g}"
            figures[f"{key}/cost"] = Figure(round(point.cost, 4), "ratio")
            figures[f"{key}/late"] = Figure(round(point.late_seconds, 2))
            figures[f"{key}/lag"] = Figure(round(point.highest_lag, 2))
            figures[f"{key}/reversals"] = Figure(round(point.reversals_per_hour, 2), "1/h")
    write_results("trade-off", figures)


def _find_optimum(task: Task) -> float:
    return optimum_seconds(task.case())


def main(arguments: Sequence[str] | None = None) -> int:
    """Play everything, and write the figures, the picture and the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.trade_off", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each load (default: 3)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at the same time")
    options = parser.parse_args(arguments)
    console, tasks = Console(), make_tasks(options.seeds)
    runs = [task for task in tasks if task.lever is None]
    with ProcessPoolExecutor(options.jobs) as pool:
        optima = dict(zip(runs, pool.map(_find_optimum, runs), strict=True))
        playing = track(pool.map(Task.play, tasks), "playing", total=len(tasks), console=console, transient=True)
        played = dict(zip(tasks, playing, strict=True))
    curves = make_curves(played, optima)
    table = describe_table(curves)
    write(curves)
    write_page(table)
    console.print("\n".join(table), highlight=False, soft_wrap=True)
    console.print(f"picture: {draw(curves, PICTURE).relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
