"""All sizes as one picture: how long each way takes beside by hand, what commits meet meanwhile, and what it costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from e2e.bench.replicas.figures import COMMIT_RATIO
from e2e.lab.results import Figure

WARM = "warm_p50"
WAYS = {
    WARM: ("a warm standby", "#2a9d4e", "label_by_hand_p50"),
    "snapshot": ("a snapshot", "#2f9fc4", "by_hand_snapshot"),
    "basebackup_standby": ("a base backup from a standby", "#e0a526", "by_hand_basebackup_standby"),
    "basebackup_primary": ("a base backup from the primary", "#b3372f", "by_hand_basebackup_primary"),
}
COLD = tuple(way for way in WAYS if way != WARM)
TITLES = (
    "Decision to first read through the Service, median, with least and most; dashed: the same by hand",
    "Slowest hundredth of the commits on the primary while a replica is made, as a multiple of calm time",
    "Processor time of the primary while one replica is made",
)


def draw(figures: Mapping[str, Figure], path: Path) -> Path:
    """Write the picture and return its path."""
    sizes = sorted({gib for name in figures for gib in _sizes_of(name)})
    figure, panels = plt.subplots(3, 1, figsize=(9, 11), layout="constrained", height_ratios=(5, 3, 3))
    times, commits, processor = panels
    _draw_times(times, figures, sizes)
    _draw_bars(commits, figures, sizes, "{way}_commit_ratio_{gib}gib")
    commits.axhline(COMMIT_RATIO, color="grey", linewidth=0.8, linestyle=":")
    _draw_bars(processor, figures, sizes, "{way}_primary_cpu_{gib}gib")
    for axes, title in zip(panels, TITLES, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xticks(range(len(sizes)), [f"{gib} GiB" for gib in sizes])
    times.set_ylabel("seconds")
    commits.set_ylabel("multiple of calm")
    processor.set_ylabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _sizes_of(name: str) -> list[int]:
    """The size that a figure of time belongs to."""
    way, _, size = name.rpartition("_")
    return [int(size.removesuffix("gib"))] if way in WAYS and size.endswith("gib") else []


def _draw_times(axes: Axes, figures: Mapping[str, Figure], sizes: Sequence[int]) -> None:
    for way, (label, color, by_hand) in WAYS.items():
        places = [place for place, gib in enumerate(sizes) if f"{way}_{gib}gib" in figures]
        found = [figures[f"{way}_{sizes[place]}gib"] for place in places]
        values = [one.value for one in found]
        below = [one.value - min(one.samples, default=one.value) for one in found]
        above = [max(one.samples, default=one.value) - one.value for one in found]
        axes.errorbar(places, values, yerr=(below, above), marker="o", capsize=3, color=color, label=label)
        peers = [place for place in places if f"{by_hand}_{sizes[place]}gib" in figures]
        levels = [figures[f"{by_hand}_{sizes[place]}gib"].value for place in peers]
        axes.plot(peers, levels, color=color, linestyle="--", linewidth=1.0, marker="_", markersize=16)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(loc="center left", bbox_to_anchor=(0, 0.4), fontsize=9)


def _draw_bars(axes: Axes, figures: Mapping[str, Figure], sizes: Sequence[int], name: str) -> None:
    width = 0.8 / len(COLD)
    for number, way in enumerate(COLD):
        label, color, _ = WAYS[way]
        names = [name.format(way=way, gib=gib) for gib in sizes]
        places = [place + (number - 1) * width for place, each in enumerate(names) if each in figures]
        bars = axes.bar(places, [figures[each].value for each in names if each in figures], width, color=color)
        axes.bar_label(bars, fmt="%.3g", fontsize=8)
        bars.set_label(label)
    axes.margins(y=0.15)
