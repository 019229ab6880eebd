"""The timeline as one picture: queue, workers, replicas and reads under one another, with what was decided."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from e2e.demo.plan import MAX_CONNECTIONS, TARGET_LAG_SECONDS, UTILIZATION_PERCENT
from e2e.demo.report import Activation, activations, threshold_crossed_at
from e2e.demo.timeline import ROLES, Timeline

COLORS = {"serving": "#2a9d4e", "standby": "#2f9fc4", "provisioning": "#e0a526", "draining": "#a05fb0"}


def draw(timeline: Timeline, path: Path) -> Path:
    """Write the picture and return its path."""
    figure, (lag, workers, replicas, reads) = plt.subplots(4, 1, figsize=(11, 11), sharex=True, layout="constrained")
    _draw_lag(lag, timeline)
    _draw_workers(workers, timeline)
    _draw_replicas(replicas, timeline)
    _draw_reads(reads, timeline)
    for one in activations(timeline):
        _mark(replicas, one)
    crossed = threshold_crossed_at(timeline)
    if crossed is not None:
        for axes in (replicas, reads):
            axes.axvline(crossed, color="crimson", linewidth=0.8, linestyle=":")
    reads.set_xlabel("seconds since the load began")
    figure.suptitle("Headroom keeps ahead of a burst: queue lag, workers, read replicas, reads")
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
    rate.plot(at, [line["rate"] for line in timeline.queue], color="#888888", linewidth=0.9)
    rate.set_ylabel("arrivals, jobs/s")
    axes.legend(loc="upper left")


def _draw_workers(axes: Axes, timeline: Timeline) -> None:
    axes.step(
        [at for at, _ in timeline.workers], [count for _, count in timeline.workers], where="post", color="#444444"
    )
    ups = [one for one in timeline.decisions if one.who == "WorkerPool"]
    axes.plot(
        [one.at - timeline.started for one in ups], [one.after for one in ups], "v", color="#b3372f", label="decided"
    )
    axes.set_ylabel("ready workers")
    axes.legend(loc="upper left")


def _draw_replicas(axes: Axes, timeline: Timeline) -> None:
    at = [line["at"] for line in timeline.counts]
    stacks = [[line[role] for line in timeline.counts] for role in ("serving", "standby", "provisioning", "draining")]
    if at:
        axes.stackplot(
            at,
            stacks,
            labels=("serving", "standby", "provisioning", "draining"),
            colors=[COLORS[role] for role in ("serving", "standby", "provisioning", "draining")],
            step="post",
        )
    axes.set_ylabel(f"replicas of {len(ROLES)} roles")
    axes.legend(loc="upper left")


def _mark(axes: Axes, one: Activation) -> None:
    kind = "cold" if one.replica.was_seeded_in_load else "warm"
    top = axes.get_ylim()[1]
    axes.annotate(
        f"{kind}: decision → first read {one.seconds:.2f} s",
        (one.first_read_at, top * 0.98),
        ha="right",
        va="top",
        rotation=90,
        fontsize=8,
    )
    axes.axvspan(
        one.decided_at, one.first_read_at, color=COLORS["provisioning" if kind == "cold" else "serving"], alpha=0.25
    )


def _draw_reads(axes: Axes, timeline: Timeline) -> None:
    at = [line["at"] for line in timeline.reads]
    axes.plot(at, [line["connections"] for line in timeline.reads], color="#2f6fb3", label="connections")
    axes.axhline(
        MAX_CONNECTIONS * UTILIZATION_PERCENT / 100,
        color="grey",
        linewidth=0.8,
        linestyle="--",
        label="threshold of one replica",
    )
    axes.set_ylabel("reader connections")
    latency = axes.twinx()
    latency.plot(at, [line["p99_ms"] for line in timeline.reads], color="#e07b39", linewidth=0.9)
    latency.set_ylabel("read p99, ms")
    failed = [(line["at"], line["connections"]) for line in timeline.reads if line["errors"]]
    if failed:
        axes.plot(*zip(*failed, strict=True), "x", color="red", label="failed reads")
    axes.legend(loc="upper left")
