"""The race as one picture: workers with the verdicts on them, throughput, and backlog, under one another."""

import math
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from e2e.bench.race_record import ARRIVALS, HELD_SECONDS, Record

TITLES = (
    "The workers: how many are asked for and ready, and each verdict on a step",
    "The throughput: jobs that end, beside those that arrive and what the lock lets through",
    "The backlog",
)
STOPPED, RESUMED = "NoGainFromMoreWorkers", "GrowthResumed"
SMOOTHED_SECONDS = 5


def draw(record: Record, path: Path) -> Path:
    """Write the picture and return its path."""
    figure, panels = plt.subplots(3, 1, figsize=(11, 9), sharex=True, layout="constrained", height_ratios=(4, 3.5, 2.5))
    workers, throughput, backlog = panels
    _draw_workers(workers, record)
    _draw_throughput(throughput, record)
    backlog.plot([at for at, _ in record.backlog], [jobs for _, jobs in record.backlog], color="#6b7a99")
    backlog.set_ylabel("jobs")
    for axes, title in zip(panels, TITLES, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_ylim(bottom=0)
        _shade(axes, record)
        if record.fixed_at is not None:
            axes.axvline(record.fixed_at, color="#2a9d4e", linewidth=1.2, linestyle="--", label="the lock is removed")
    for axes in (workers, throughput):
        axes.legend(loc="upper left", fontsize=9)
    backlog.set_xlabel("seconds since the jobs began to arrive")
    backlog.set_xlim(0, max((second.at for second in record.seconds()), default=0) or 1)
    figure.suptitle("Workers that race for one row: growth is stopped where it gains nothing, and resumes once it can")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _draw_workers(axes: Axes, record: Record) -> None:
    seconds = record.seconds()
    at = [second.at for second in seconds]
    axes.step(at, [second.asked for second in seconds], where="post", color="#b3372f", label="asked for")
    axes.step(at, [second.ready for second in seconds], where="post", color="#444444", linewidth=1.0, label="ready")
    for is_stop, marker, color, label in (
        (False, "^", "#2a9d4e", "verdict: more workers did more"),
        (True, "v", "#b3372f", "verdict: no gain, growth stops"),
    ):
        found = [one for one in record.verdicts() if one.is_stop is is_stop]
        if found:
            places = [one.at for one in found], [one.after for one in found]
            axes.plot(*places, marker, markersize=9, color=color, label=label)
    for one in record.verdicts():
        text = f"{one.before}: {one.rate_before:.3g}/s\n{one.after}: {one.rate_after:.3g}/s"
        axes.annotate(text, (one.at, one.after), xytext=(6, 6), textcoords="offset points", fontsize=8)
    resumed = [moment for moment, reason, _ in record.events if reason == RESUMED]
    if resumed:
        axes.plot(resumed, [0] * len(resumed), "|", markersize=16, color="#2a9d4e", label="event: growth resumed")
    axes.set_ylabel("workers")
    highest = max((second.asked for second in seconds), default=1)
    axes.set_yticks(range(0, highest + 2, max(1, math.ceil(highest / 10))))


def _draw_throughput(axes: Axes, record: Record) -> None:
    seconds = record.seconds()[:-1]
    ended = [second.ended for second in seconds]
    smooth = [
        sum(ended[max(0, n + 1 - SMOOTHED_SECONDS) : n + 1]) / min(n + 1, SMOOTHED_SECONDS) for n in range(len(ended))
    ]
    at = [second.at for second in seconds]
    axes.plot(at, smooth, color="#2f6fb3", label=f"ended per second, mean of {SMOOTHED_SECONDS} s")
    axes.axhline(ARRIVALS, color="#6b7a99", linewidth=0.8, linestyle="--", label="arrivals")
    axes.axhline(1 / HELD_SECONDS, color="grey", linewidth=0.8, linestyle=":", label="at most, one job at a time")
    axes.set_ylabel("jobs/s")


def _shade(axes: Axes, record: Record) -> None:
    """The time in which `Effective` is False."""
    label = "Effective=False"
    after = [state.at for state in record.states[1:]]
    end = float(max((second.at for second in record.seconds()), default=0))
    for state, until in zip(record.states, [*after, max(end, *after) if after else end], strict=False):
        if state.is_named:
            axes.axvspan(state.at, until, color="#f6e3a1", linewidth=0, label=label)
            label = "_"
