"""`python -m headroom.simulation`: the worker policy on the load shapes, beside the optimum and KEDA."""

import argparse
import sys
from collections.abc import Sequence

try:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
except ImportError:  # the image does without it
    sys.exit("the simulation prints with rich: pip install 'headroom[report]'")

from headroom.simulation.goals import judge
from headroom.simulation.run import Case, optimum_seconds, play_headroom
from headroom.simulation.table import HEADROOM, Result, Row, make_cases, make_rows, play_all
from headroom.simulation.traps import BY_NAME

EPILOG = """
Cells: highest lag / seconds above the target / worker-seconds divided by those of the optimum, which knows the future.
Times are seconds. KEDA K knows how many jobs a replica ends within the target lag; K/3 is a third of that.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what was asked for, and print it."""
    options = _parse(arguments)
    console = Console()
    cases = make_cases(
        options.shape,
        seeds=options.seeds,
        start_delays=options.start_delay,
        targets=options.target,
        is_notified=options.notified,
    )
    if options.trace:
        print_trace(cases[0], console, every=options.every)
        return 0
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("playing", total=len(cases))
        played = play_all(cases, jobs=options.jobs, is_quick=options.quick, done=lambda: progress.advance(task))
    rows = make_rows(cases, played)
    for delay in options.start_delay:
        for target in dict.fromkeys(row.target_lag_seconds for row in rows):
            chosen = [row for row in rows if (row.start_delay_seconds, row.target_lag_seconds) == (delay, target)]
            if chosen:
                console.print(make_table(chosen, f"start delay {delay:g} s, target lag {target:g} s"))
    for judgement in judge(rows):
        if not judgement.is_met:
            console.print(f"missed: {judgement.key} is {judgement.value:.2f}, the goal is {judgement.limit:.2f}")
    console.print(EPILOG.strip(), style="dim")
    return 0


def make_table(rows: Sequence[Row], title: str) -> Table:
    """The rows as a table for a terminal."""
    names = list(rows[0].results)
    table = Table(title=title, title_justify="left")
    for column in ("load", *names, "changes", "reversals/h", "highest", "cut", "optimum"):
        table.add_column(column, justify="left" if column == "load" else "right")
    for row in rows:
        ours = row.results[HEADROOM]
        changes = " / ".join(f"{row.results[name].changes:.0f}" for name in names)
        cells = [describe(row.results[name]) for name in names]
        rest = (
            f"{ours.reversals_per_hour:.1f}",
            str(ours.highest_workers),
            f"{ours.cut:.0f}",
            f"{row.mean_workers:.1f}",
        )
        table.add_row(row.shape.name, *cells, changes, *rest)
    return table


def describe(result: Result) -> str:
    """Highest lag / seconds above the target / cost ratio."""
    return f"{result.highest_lag:.0f}/{result.late_seconds:.0f}/{result.cost_ratio:.2f}"


def print_trace(case: Case, console: Console, *, every: float) -> None:
    """One run of the policy, pass by pass: each change, and what is between two of them every so many seconds."""
    figures, scaler, _ = play_headroom(case)
    last_at, last_count = -every, -1
    for step in scaler.steps:
        sizing, sample = step.decision.sizing, step.facts.sample
        if sizing is None or (step.at - last_at < every and sizing.decision.allowed == last_count):
            continue
        last_at, last_count = step.at, sizing.decision.allowed
        queue = "no sample" if sample is None else f"lag {sample.lag_seconds:6.1f} backlog {sample.backlog:6d}"
        known = sizing.estimates
        rates = f"a {_describe_rate(known.arrivals_per_second)} m {_describe_rate(known.service_rate)}"
        counts = f"{step.replicas:4d} -> {sizing.decision.allowed:4d} (wanted {sizing.decision.wanted})"
        console.print(
            f"{step.at:8.1f} {queue} {rates} {counts} {sizing.decision.message}", highlight=False, soft_wrap=True
        )
    console.print(figures)
    console.print(f"optimum: {optimum_seconds(case):.0f} worker-seconds")


def _describe_rate(value: float | None) -> str:
    return "      -" if value is None else f"{value:7.3f}"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m headroom.simulation", description=__doc__, epilog=EPILOG)
    add = parser.add_argument
    add("--shape", action="append", choices=list(BY_NAME), default=[], help="a load; repeat for more (default: all)")
    add("--start-delay", type=float, action="append", help="seconds a worker takes to start (default: 5)")
    add("--target", type=float, action="append", help="target lag in seconds (default: 30)")
    add("--seeds", type=int, default=3, help="runs of each load (default: 3)")
    add("--jobs", type=int, default=1, help="runs at the same time (default: 1)")
    add("--quick", action="store_true", help="leave KEDA out")
    add("--notified", action="store_true", help="each arrival makes the next sample due, at most two a second")
    add("--trace", action="store_true", help="print the passes of the first run instead of the table")
    add("--every", type=float, default=30.0, help="with --trace: seconds between two lines without a change")
    options = parser.parse_args(arguments)
    options.start_delay = options.start_delay or [5.0]
    options.target = options.target or [30.0]
    return options


if __name__ == "__main__":
    sys.exit(main())
