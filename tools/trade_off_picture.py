"""The trade-off as one picture: a column for each lever, and in it cost beside lateness, lag and reversals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

COLORS = ("#6b7a99", "#2f9fc4", "#2a9d4e", "#b3372f", "#e0a526", "#a05fb0")
LABEL_OFFSETS = (5, 6), (-12, -13)
"""Where the label of a point is, in turn: neighbors may be close."""
EVERYTHING = "all loads: means, and the highest lag"


@dataclass(frozen=True, slots=True)
class Point:
    """What came out at one value of a lever; `cost` is worker-seconds divided by those of the optimum."""

    value: float
    cost: float
    late_seconds: float
    highest_lag: float
    reversals_per_hour: float
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """The points of a lever at one target lag on one load, by value; on all loads where `load` is None."""

    lever: str
    title: str
    target: float
    load: str | None
    points: tuple[Point, ...]


ROWS: tuple[tuple[str, float, Callable[[Point], float]], ...] = (
    ("seconds above a target of 30 s", 30.0, lambda point: point.late_seconds),
    ("seconds above a target of 5 s", 5.0, lambda point: point.late_seconds),
    ("highest lag in s, target 30 s", 30.0, lambda point: point.highest_lag),
    ("reversals an hour, target 30 s", 30.0, lambda point: point.reversals_per_hour),
)
"""What a row of panels shows, and at which target."""


def draw(curves: Sequence[Curve], path: Path) -> Path:
    """Write the picture and return its path."""
    levers, colors = list(dict.fromkeys(curve.lever for curve in curves)), pick_colors(curves)
    figure, panels = plt.subplots(
        len(ROWS), len(levers), figsize=(5.5 * len(levers), 14), sharex="col", layout="constrained", squeeze=False
    )
    for row, (label, target, read) in zip(panels, ROWS, strict=True):
        for axes, lever in zip(row, levers, strict=True):
            shown = [curve for curve in curves if (curve.lever, curve.target) == (lever, target)]
            _draw_panel(axes, shown, read, colors)
        row[0].set_ylabel(label)
    for axes, lever in zip(panels[0], levers, strict=True):
        title = next(curve.title for curve in curves if curve.lever == lever)
        axes.set_title(f"{title}\n{lever}", loc="left", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("worker-seconds divided by those of the optimum")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    figure.suptitle("What the chosen values trade: cost beside lateness and reversals (the circle is the chosen value)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def pick_colors(curves: Sequence[Curve]) -> dict[str | None, str]:
    """The color of each load, the same in all panels; black for all of them."""
    loads = dict.fromkeys(curve.load for curve in curves if curve.load is not None)
    return {None: "black", **dict(zip(loads, COLORS, strict=False))}


def _draw_panel(
    axes: Axes, curves: Sequence[Curve], read: Callable[[Point], float], colors: Mapping[str | None, str]
) -> None:
    """A thin line for each load, a thick one with the values for all of them, and a circle at each chosen value."""
    for curve in curves:
        at, heights = [point.cost for point in curve.points], [read(point) for point in curve.points]
        color = colors[curve.load]
        label = EVERYTHING if curve.load is None else curve.load
        axes.plot(at, heights, ".-", color=color, label=label, linewidth=2.2 if curve.load is None else 1.0)
        for index, point in enumerate(curve.points):
            place, offset = (point.cost, read(point)), LABEL_OFFSETS[index % 2]
            if point.is_chosen:
                axes.plot(*place, "o", markersize=9, markerfacecolor="none", color=color)
            if curve.load is None:
                axes.annotate(f"{point.value:g}", place, xytext=offset, textcoords="offset points", fontsize=8)
    axes.axvline(1.0, color="grey", linewidth=0.8, linestyle=":")
    axes.margins(y=0.12)
    axes.set_ylim(bottom=-0.08 * axes.get_ylim()[1])
