"""The live view: lag, workers, replicas by role, reads, and what was decided and why."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from e2e.demo.plan import ARRIVALS, CLIENT_CONNECTIONS, LONGEST, TARGET_LAG_SECONDS
from e2e.demo.timeline import ROLES, Decision, GuardSample, Timeline

BARS = " ▁▂▃▄▅▆▇█"
MISSING = "-"
WIDTH = 32
DECISIONS_SHOWN = 8
BORDER_LINES, SPARE_LINES, PANEL_COLUMNS = 2, 1, 4
LEAST_BACKLOG = ARRIVALS[0][1] * TARGET_LAG_SECONDS
LEAST_WORKERS = 4
LEAST_MILLISECONDS = 100
"""Full bars are at least this much, so that a quiet row looks quiet."""
STATE_COLORS = {"Healthy": "green", "Brownout": "yellow", "Overloaded": "red", "Emergency": "bold red"}
COLORS = {"serving": "green", "standby": "cyan", "provisioning": "yellow", "draining": "magenta"}


def render(timeline: Timeline, now: float, console: Console) -> RenderableType:
    """The whole screen, no higher than the console; `now` in epoch seconds."""
    elapsed = now - timeline.started
    title = f"tebex_2019: an incident's hours in minutes · {elapsed:.0f} s, at most {LONGEST:.0f} s"
    head = Group(
        Panel(_charts(timeline), title=title),
        Panel(_replicas(timeline), title="replicas of dbrs/store"),
    )
    lines = console.height - len(console.render_lines(head)) - BORDER_LINES - SPARE_LINES
    return Group(head, Panel(_decisions(timeline, console, lines), title="decided, and why: the newest first"))


def plain_line(timeline: Timeline, now: float) -> str:
    """One line for where there is no terminal."""
    queue, reads, counts = _last(timeline.queue), _last(timeline.reads), _last(timeline.counts)
    return (
        f"{now - timeline.started:4.0f} s  lag {queue.get('lag_seconds', 0):4.1f} s  "
        f"backlog {queue.get('backlog', 0):4.0f}  workers {_workers(timeline):2d}  "
        f"serving {counts.get('serving', 0):.0f} warm {counts.get('standby', 0):.0f} "
        f"new {counts.get('provisioning', 0):.0f}  "
        f"readers {reads.get('connections', 0):3.0f} p99 {_milliseconds(reads)} "
        f"failed {sum(line['errors'] for line in timeline.reads):.0f}  commits {_guard_words(timeline)}"
    )


def _charts(timeline: Timeline) -> Table:
    table = Table.grid(padding=(0, 2))
    queue, reads = _last(timeline.queue), _last(timeline.reads)
    lags = [line["lag_seconds"] for line in timeline.queue]
    color = "red" if queue.get("lag_seconds", 0) > TARGET_LAG_SECONDS else "green"
    table.add_row(
        "queue lag", Text(sparkline(lags, TARGET_LAG_SECONDS), style=color), f"{queue.get('lag_seconds', 0):.1f} s"
    )
    backlogs = [line["backlog"] for line in timeline.queue]
    table.add_row("backlog", sparkline(backlogs, LEAST_BACKLOG), f"{queue.get('backlog', 0):.0f}")
    table.add_row("workers", sparkline(_workers_each_second(timeline), LEAST_WORKERS), f"{_workers(timeline)} ready")
    table.add_row(
        "reader connections",
        sparkline([line["connections"] for line in timeline.reads], CLIENT_CONNECTIONS),
        f"{reads.get('connections', 0):.0f} ({CLIENT_CONNECTIONS} a replica)",
    )
    failed = sum(line["errors"] for line in timeline.reads)
    slowest = [line["p99_ms"] for line in timeline.reads]
    table.add_row("read latency p99", sparkline(slowest, LEAST_MILLISECONDS), _milliseconds(reads))
    table.add_row(
        "primary's commits",
        sparkline(_commits_each_second(timeline), LEAST_MILLISECONDS),
        Text(_guard_words(timeline), style=STATE_COLORS.get(_guard(timeline).state, "dim")),
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


def _decisions(timeline: Timeline, console: Console, lines: int) -> RenderableType:
    """As many of the newest as fit into so many lines; at least one."""
    newest = sorted(timeline.moves(), key=lambda one: one.at, reverse=True)[:DECISIONS_SHOWN]
    inside = console.options.update_width(console.width - PANEL_COLUMNS)
    tables = [_decision_table(newest[:count], timeline.started) for count in range(len(newest), 1, -1)]
    fitting = (table for table in tables if len(console.render_lines(table, inside)) <= lines)
    return next(fitting, _decision_table(newest[:1], timeline.started))


def _decision_table(decisions: Sequence[Decision], started: float) -> Table:
    table = Table.grid(padding=(0, 1))
    for decision in decisions:
        table.add_row(*decision_cells(decision, started))
    return table


def decision_cells(decision: Decision, started: float) -> tuple[str, str, str, str]:
    """When, who, from what to what, why."""
    moved = f"{decision.before} → {decision.after}" if decision.before is not None else f"→ {decision.after}"
    return f"{decision.at - started:5.0f} s", decision.who, moved, decision.words


def sparkline(values: Sequence[float | None], least: float) -> str:
    """The last values as bars, a missing one as a dash; a full bar is the highest of them, and `least` at least."""
    shown = list(values)[-WIDTH:]
    top = max([value for value in shown if value is not None] + [least])
    bars = len(BARS) - 1
    return "".join(MISSING if value is None else BARS[min(bars, round(value / top * bars))] for value in shown)


def _milliseconds(reads: Mapping[str, Any]) -> str:
    """The slowest hundredth, or a dash while no read is answered."""
    slowest = reads.get("p99_ms")
    return MISSING if slowest is None else f"{slowest:.0f} ms"


def _workers_each_second(timeline: Timeline) -> list[float]:
    """Ready workers at the times of the other rows, so that all bars share one axis."""
    changes = list(timeline.workers)
    return [next((count for at, count in reversed(changes) if at <= line["at"]), 0) for line in timeline.queue]


def _commits_each_second(timeline: Timeline) -> list[float]:
    """Commit latency in ms at the times of the other rows."""
    samples = list(timeline.guard)
    known = [next((one for one in reversed(samples) if one.at <= line["at"]), None) for line in timeline.queue]
    return [(one.commit_ms or 0) if one else 0 for one in known]


def _guard(timeline: Timeline) -> GuardSample:
    return timeline.guard[-1] if timeline.guard else GuardSample(0, "Unknown")


def _guard_words(timeline: Timeline) -> str:
    """Commit latency and the guard's state."""
    last = _guard(timeline)
    return last.state if last.commit_ms is None else f"{last.commit_ms:.0f} ms, {last.state}"


def _workers(timeline: Timeline) -> int:
    return timeline.workers[-1][1] if timeline.workers else 0


def _last(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return lines[-1] if lines else {}
