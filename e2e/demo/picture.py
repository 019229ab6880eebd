"""The timeline as one picture: queue, workers, replicas, reads and the primary under one another, then two replicas'
way from decision to first read.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from e2e.demo.parts import Activation, Course, activations, course_of
from e2e.demo.parts_picture import draw_parts
from e2e.demo.plan import TARGET_LAG_SECONDS, THRESHOLD_CONNECTIONS
from e2e.demo.primary import copies, end_of, slowest_each_second
from e2e.demo.report import courses, threshold_crossed_at
from e2e.demo.timeline import Timeline

TITLES = (
    "The queue: how late its oldest job is, and what arrives",
    "The workers: how many are ready, and each new size that was decided",
    "The read replicas by role: a warm standby serves at once, and a new one is created behind it",
    "The reads through the Service: open connections, and the slowest hundredth",
    "The primary: the slowest small commit of each second, what the guard calls it, and when a replica was created",
    "From decision to first read: the warm standby and the new replica (less the time it stood by until it was needed)",
)
STACKED = ("serving", "standby", "provisioning", "draining")
STATES = {
    "Healthy": "#ffffff",
    "Brownout": "#f6e3a1",
    "Overloaded": "#f2b48a",
    "Emergency": "#e58b8b",
    "Unknown": "#dddddd",
}
HEADROOM_OF_LEGEND = 1.45
"""The height of the last panel in highest commits: its legend has a line above them."""
COLORS = {"serving": "#2a9d4e", "standby": "#2f9fc4", "provisioning": "#e0a526", "draining": "#a05fb0"}


def draw(timeline: Timeline, path: Path) -> Path:
    """Write the picture and return its path."""
    figure, panels = plt.subplots(6, 1, figsize=(11, 15.5), layout="constrained", height_ratios=(4, 3.5, 4, 4, 3, 2))
    lag, workers, replicas, reads, primary, parts = panels
    for axes in (lag, workers, replicas, reads):
        axes.sharex(primary)
        axes.tick_params(labelbottom=False)
    crossed = threshold_crossed_at(timeline)
    if crossed is not None:
        for axes in (replicas, reads):
            axes.axvline(crossed, color="crimson", linewidth=0.8, linestyle=":", label="threshold crossed")
    _draw_lag(lag, timeline)
    _draw_workers(workers, timeline)
    _draw_replicas(replicas, timeline)
    _draw_reads(reads, timeline)
    draw_primary(primary, timeline)
    draw_parts(parts, courses(timeline))
    for one in activations(timeline):
        _mark(replicas, one, timeline.started)
    for axes in (replicas, reads, primary):
        axes.set_ylim(bottom=0)
    primary.set_xlabel("seconds since the load began")
    primary.set_xlim(0, max((line["at"] for line in timeline.queue), default=1))
    for axes, title in zip(panels, TITLES, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
    figure.suptitle("Headroom in a burst (tebex_2019: the incident of 1 August 2019, its hours made into minutes)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _draw_lag(axes: Axes, timeline: Timeline) -> None:
    at = [line["at"] for line in timeline.queue]
    axes.plot(at, [line["lag_seconds"] for line in timeline.queue], color="#b3372f", label="queue lag")
    axes.axhline(TARGET_LAG_SECONDS, color="grey", linewidth=0.8, linestyle="--", label="target")
    axes.set_ylabel("lag, s")
    rate = axes.twinx()
    rate.plot(at, [line["rate"] for line in timeline.queue], color="#6b7a99", linewidth=1.1, label="arrivals")
    rate.set_ylabel("arrivals, jobs/s")
    rate.set_ylim(0, 1.3 * max((line["rate"] for line in timeline.queue), default=1))
    _legend(axes, rate)


def _draw_workers(axes: Axes, timeline: Timeline) -> None:
    at = [moment for moment, _ in timeline.workers]
    counts = [count for _, count in timeline.workers]
    end = max((line["at"] for line in timeline.queue), default=0.0)
    axes.step([*at, *[end] * bool(at)], [*counts, *counts[-1:]], where="post", color="#444444", label="ready")
    moves = [one for one in timeline.moves() if one.who == "WorkerPool"]
    axes.plot(
        [one.at - timeline.started for one in moves],
        [one.after for one in moves],
        "v",
        color="#b3372f",
        label="decided",
    )
    axes.set_ylabel("workers")
    axes.legend(loc="upper left")


def _draw_replicas(axes: Axes, timeline: Timeline) -> None:
    end = max((line["at"] for line in timeline.queue), default=0.0)
    lines = [*timeline.counts, *({**line, "at": end} for line in timeline.counts[-1:])]
    seen = [role for role in STACKED if any(line[role] for line in lines)]
    if seen:
        stacks = [[line[role] for line in lines] for role in seen]
        colors = [COLORS[role] for role in seen]
        axes.stackplot([line["at"] for line in lines], stacks, labels=seen, colors=colors, step="post")
    axes.set_ylabel("replicas")
    handles, labels = _entries(axes)
    if activations(timeline):
        handles.append(Patch(facecolor="none", edgecolor="black", hatch="////", linewidth=0.8))
        labels.append("from decision to first read")
    axes.legend(handles, labels, loc="upper left")


def _mark(axes: Axes, one: Activation, started: float) -> None:
    course = course_of(one)
    if one.replica.was_seeded_in_load and course is not None:
        _mark_making(axes, one, course, started)
    name = "the new one, warm by now" if one.replica.was_seeded_in_load else "the warm standby"
    axes.axvspan(one.decided_at, one.first_read_at, facecolor="none", edgecolor="black", hatch="//", linewidth=0.8)
    axes.annotate(
        f"{name}:\nfirst read after {one.seconds:.2f} s",
        (one.first_read_at, 0.15),
        xytext=(6, 0),
        textcoords="offset points",
        fontsize=9,
        color="black",
        bbox={"boxstyle": "round", "facecolor": "white", "alpha": 0.85, "edgecolor": "none"},
    )


def _mark_making(axes: Axes, one: Activation, course: Course, started: float) -> None:
    """How long a replica took that was not there when the load began, until it could serve."""
    if one.begun is None or one.replica.able_at is None:
        return
    begin, end, top = one.begun.at - started, one.replica.able_at - started, axes.get_ylim()[1]
    axes.annotate("", (begin, top * 0.9), (end, top * 0.9), arrowprops={"arrowstyle": "<->", "color": "black"})
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    text = f"{end - begin:.1f} s: {course.name}"
    axes.annotate(text, (end, top * 0.9), xytext=(4, 0), textcoords="offset points", fontsize=9, va="center", bbox=box)


def _draw_reads(axes: Axes, timeline: Timeline) -> None:
    at = [line["at"] for line in timeline.reads]
    axes.plot(at, [line["connections"] for line in timeline.reads], color="#2f6fb3", label="connections")
    axes.axhline(
        THRESHOLD_CONNECTIONS,
        color="grey",
        linewidth=0.8,
        linestyle="--",
        label=f"{THRESHOLD_CONNECTIONS:.0f}: above it one replica is not enough",
    )
    axes.set_ylabel("reader connections")
    latency = axes.twinx()
    # Where no read was answered there is no latency, so the line has a gap.
    slowest = [math.nan if line["p99_ms"] is None else line["p99_ms"] for line in timeline.reads]
    latency.plot(at, slowest, color="#e07b39", linewidth=0.9, label="read p99")
    latency.set_ylabel("read p99, ms")
    failed = [(line["at"], line["connections"]) for line in timeline.reads if line["errors"]]
    if failed:
        axes.plot(*zip(*failed, strict=True), "x", color="red", label="failed reads")
    _legend(axes, latency)


def draw_primary(axes: Axes, timeline: Timeline) -> None:
    """The commits of the primary over the guard's states, with a legend above both."""
    end = end_of(timeline)
    samples = list(timeline.guard)
    for one, until in zip(samples, [*(after.at for after in samples[1:]), end], strict=False):
        if one.state in STATES:
            axes.axvspan(one.at, until, color=STATES[one.state], linewidth=0)
    for since, until in (made := copies(timeline)):
        axes.axvspan(since, until, facecolor="none", edgecolor="#888888", hatch="////", linewidth=0)
    slowest = slowest_each_second(timeline)
    if slowest:
        axes.step(*zip(*slowest, strict=True), where="post", color="#5b3f8c", linewidth=1.1, label="slowest commit")
    axes.set_ylabel("commit, ms")
    # Above the highest commit, which is at the start as often as later.
    axes.set_ylim(top=HEADROOM_OF_LEGEND * (max((took for _, took in slowest), default=0) or 1))
    handles, labels = _entries(axes)
    states = [state for state in STATES if any(one.state == state for one in samples)]
    patches = {state: Patch(facecolor=STATES[state], edgecolor="#cccccc") for state in states}
    if made:
        patches["a replica is created"] = Patch(facecolor="none", edgecolor="#888888", hatch="////")
    axes.legend([*handles, *patches.values()], [*labels, *patches], loc="upper left", ncols=5)


def _legend(axes: Axes, twin: Axes) -> None:
    """One legend for both scales."""
    handles, labels = (mine + others for mine, others in zip(*map(_entries, (axes, twin)), strict=True))
    axes.legend(handles, labels, loc="upper left")


def _entries(axes: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    return handles, [str(label) for label in labels]
