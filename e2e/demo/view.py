"""The live view: lag, workers, replicas by role, reads, and what was decided and why."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from e2e.demo.plan import LONGEST, MAX_CONNECTIONS, TARGET_LAG_SECONDS
from e2e.demo.timeline import ROLES, Decision, Timeline

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 32
DECISIONS_SHOWN = 8
COLORS = {"serving": "green", "standby": "cyan", "provisioning": "yellow", "draining": "magenta"}


def render(timeline: Timeline, now: float) -> RenderableType:
    """The whole screen; `now` in epoch seconds."""
    elapsed = now - timeline.started
    return Group(
        Panel(_charts(timeline), title=f"tebex_2019, minutes for hours · {elapsed:.0f} s, at most {LONGEST:.0f} s"),
        Panel(_replicas(timeline), title="replicas of dbrs/store"),
        Panel(_decisions(timeline), title="decided, and why"),
    )


def plain_line(timeline: Timeline, now: float) -> str:
    """One line for where there is no terminal."""
    queue, reads, counts = _last(timeline.queue), _last(timeline.reads), _last(timeline.counts)
    return (
        f"{now - timeline.started:5.0f} s  lag {queue.get('lag_seconds', 0):5.1f} s  "
        f"backlog {queue.get('backlog', 0):6.0f}  workers {_workers(timeline):2d}  "
        f"serving {counts.get('serving', 0):.0f}  standby {counts.get('standby', 0):.0f}  "
        f"provisioning {counts.get('provisioning', 0):.0f}  "
        f"connections {reads.get('connections', 0):4.0f}  read p99 {reads.get('p99_ms', 0):6.1f} ms  "
        f"failed reads {sum(line['errors'] for line in timeline.reads):.0f}"
    )


def _charts(timeline: Timeline) -> Table:
    table = Table.grid(padding=(0, 2))
    queue, reads = _last(timeline.queue), _last(timeline.reads)
    lags = [line["lag_seconds"] for line in timeline.queue]
    color = "red" if queue.get("lag_seconds", 0) > TARGET_LAG_SECONDS else "green"
    table.add_row("queue lag", Text(sparkline(lags), style=color), f"{queue.get('lag_seconds', 0):.1f} s")
    table.add_row("backlog", sparkline([line["backlog"] for line in timeline.queue]), f"{queue.get('backlog', 0):.0f}")
    table.add_row("workers", sparkline(_workers_each_second(timeline)), f"{_workers(timeline)} ready")
    table.add_row(
        "reader connections",
        sparkline([line["connections"] for line in timeline.reads]),
        f"{reads.get('connections', 0):.0f} ({MAX_CONNECTIONS} a replica)",
    )
    failed = sum(line["errors"] for line in timeline.reads)
    table.add_row(
        "read latency p99", sparkline([line["p99_ms"] for line in timeline.reads]), f"{reads.get('p99_ms', 0):.1f} ms"
    )
    table.add_row("failed reads", "", Text(f"{failed:.0f}", style="red" if failed else "green"))
    return table


def _replicas(timeline: Timeline) -> RenderableType:
    counts = _last(timeline.counts)
    line = Text()
    for role in ROLES:
        line.append(f"  {role} ", style="dim")
        line.append("■ " * int(counts.get(role, 0)) or "- ", style=COLORS[role])
    return line


def _decisions(timeline: Timeline) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    moves = [one for one in timeline.decisions if one.is_move]
    for decision in sorted(moves, key=lambda one: one.at)[-DECISIONS_SHOWN:]:
        table.add_row(*decision_cells(decision, timeline.started))
    return table


def decision_cells(decision: Decision, started: float) -> tuple[str, str, str, str]:
    """When, who, from what to what, why."""
    moved = f"{decision.before} → {decision.after}" if decision.before is not None else f"→ {decision.after}"
    return f"{decision.at - started:5.0f} s", decision.who, moved, decision.words


def sparkline(values: Sequence[float]) -> str:
    """The last values as bars; the highest one is a full bar."""
    shown = list(values)[-WIDTH:]
    top = max(shown, default=0) or 1
    return "".join(BARS[min(len(BARS) - 1, round(value / top * (len(BARS) - 1)))] for value in shown)


def _workers_each_second(timeline: Timeline) -> list[float]:
    """Ready workers at the times of the other rows, so that all bars share one axis."""
    changes = list(timeline.workers)
    return [next((count for at, count in reversed(changes) if at <= line["at"]), 0) for line in timeline.queue]


def _workers(timeline: Timeline) -> int:
    return timeline.workers[-1][1] if timeline.workers else 0


def _last(lines: Sequence[dict[str, float]]) -> dict[str, float]:
    return lines[-1] if lines else {}
