"""`python -m tools.simulate`: all loads at all start delays and targets, with the goals that each of them must reach.

The figures go to build/results/simulate.json. The goals that are missed are compared with those that are known
(tests/unit/simulation/known_misses.json): one that is new, worse, or met by now ends this with 1. With --accept they
become the known ones, and the tables of docs/explanation/measurements.md are written again. With --first only the first
start delay and target are played, as the tests do; the known misses of the others stay.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from e2e.lab.results import Figure, write_results
from headroom.simulation.__main__ import EPILOG, make_table
from headroom.simulation.catalogue import LISTED
from headroom.simulation.goals import Judgement, compare, judge
from headroom.simulation.run import Case
from headroom.simulation.table import HEADROOM, Result, Row, make_cases, make_rows, play_all
from headroom.simulation.traps import BY_NAME, TRAPS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/explanation/measurements.md"
MISSES = ROOT / "tests/unit/simulation/known_misses.json"
BEGIN, END = "<!-- simulation: begin -->\n", "<!-- simulation: end -->\n"
START_DELAYS, TARGETS = (5.0, 30.0, 90.0), (5.0, 30.0, 3600.0)
FIRST = (5.0, 30.0)
"""The start delay and the target of the first table."""
SLOW_TRAPS = ("race-16", "full-database", "ten-slots", "failing-end")
"""Traps that are played at the other start delays too."""


def make_all_cases(seeds: int, *, first_only: bool = False) -> list[Case]:
    """Every listed load in every combination, and the traps in the first one, some of them with slow starts too."""
    if first_only:
        return make_cases(list(BY_NAME), seeds=seeds, start_delays=FIRST[:1], targets=FIRST[1:])
    listed = make_cases([shape.name for shape in LISTED], seeds=seeds, start_delays=START_DELAYS, targets=TARGETS)
    slow = make_cases(SLOW_TRAPS, seeds=seeds, start_delays=START_DELAYS[1:], targets=FIRST[1:])
    return listed + make_cases([shape.name for shape in TRAPS], seeds=seeds) + slow


def main(arguments: Sequence[str] | None = None) -> int:
    """Play everything, print the first table and the misses, and write the files."""
    parser = argparse.ArgumentParser(prog="python -m tools.simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs of each load (default: 3)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at the same time")
    parser.add_argument("--accept", action="store_true", help="write the page and the known misses")
    parser.add_argument("--first", action="store_true", help="the first start delay and target only")
    options = parser.parse_args(arguments)
    console, cases = Console(), make_all_cases(options.seeds, first_only=options.first)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("playing", total=len(cases))
        played = play_all(cases, jobs=options.jobs, done=lambda: progress.advance(task))
    rows = make_rows(cases, played)
    judgements = list(judge(rows))
    console.print(make_table(_first(rows), f"start delay {FIRST[0]:g} s, target lag {FIRST[1]:g} s"))
    console.print(EPILOG.strip(), style="dim")
    for judgement in judgements:
        if not judgement.is_met:
            console.print(f"missed: {_describe_miss(judgement)}")
    met = sum(judgement.is_met for judgement in judgements)
    path = write(judgements)
    console.print(f"{met} of {len(judgements)} goals met; {path}")
    known = json.loads(MISSES.read_text())
    if options.accept:
        write_page(rows, judgements, options.seeds, describe_origin(json.loads(path.read_text())))
        write_misses(judgements, keep=known)
        return 0
    changes = compare(judgements, known)
    for change in changes:
        console.print(f"differs from the known misses: {change}")
    return 1 if changes else 0


def write(judgements: Iterable[Judgement]) -> Path:
    """Write build/results/simulate.json."""
    figures = {
        judgement.key: Figure(
            round(judgement.value, 4),
            judgement.goal.unit,
            round(judgement.limit, 4),
            judgement.is_met,
            [round(sample, 4) for sample in judgement.samples],
        )
        for judgement in judgements
    }
    return write_results("simulate", figures)


def write_misses(judgements: Sequence[Judgement], *, keep: Mapping[str, float]) -> None:
    """Write what is missed, for the tests; what was not played is kept."""
    played = {judgement.key for judgement in judgements}
    misses = {key: value for key, value in keep.items() if key not in played}
    misses |= {judgement.key: round(judgement.value, 3) for judgement in judgements if not judgement.is_met}
    MISSES.write_text(json.dumps(misses, indent=2, sort_keys=True) + "\n")


def describe_origin(results: Mapping[str, Any]) -> str:
    """The commit and the machine of results as they are in build/results."""
    machine = results["machine"]
    where = f"{machine['cores']} cores, {machine['memoryGiB']:g} GiB and Linux {machine['kernel'].partition('-')[0]}"
    return f"Played at commit {results['commit']} on a machine with {where} (only the time it takes depends on that)."


def write_page(rows: Sequence[Row], judgements: Sequence[Judgement], seeds: int, origin: str) -> None:
    """Replace the section between the two marks of the page."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + describe_page(rows, judgements, seeds, origin) + END + after)


def describe_page(rows: Sequence[Row], judgements: Sequence[Judgement], seeds: int, origin: str) -> str:
    """The section: where it was played, two tables and the misses."""
    missed = [judgement for judgement in judgements if not judgement.is_met]
    where = (
        f"Start delay {FIRST[0]:g} s, target lag {FIRST[1]:g} s unless the load says otherwise, {seeds} runs of each "
        f"load. The jobs are the same in each column. {origin}"
    )
    others = (
        "The same at other start delays and target lags (start delay / target lag, in seconds), Headroom alone. A load "
        "that has its own target lag has it in each column."
    )
    verdict = f"{len(judgements) - len(missed)} of {len(judgements)} goals are met. Missed:"
    lines = ["", where, "", *_first_table(_first(rows)), ""]
    if any(row.start_delay_seconds != FIRST[0] for row in rows):
        lines += [others, "", *_other_table(rows), ""]
    misses = [verdict, "", *[f"* {_describe_miss(judgement)}" for judgement in missed]]
    return "\n".join([*lines, *(misses if missed else ["All goals are met."])]) + "\n\n"


def _first(rows: Iterable[Row]) -> list[Row]:
    return [
        row
        for row in rows
        if row.start_delay_seconds == FIRST[0] and row.target_lag_seconds == (row.shape.target_lag or FIRST[1])
    ]


def _first_table(rows: Sequence[Row]) -> list[str]:
    lines = [
        "| load | Headroom | KEDA *K* | KEDA *K*/3 | changes | reversals an hour |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [_cell(result) for result in row.results.values()]
        changes = " / ".join(f"{result.changes:.0f}" for result in list(row.results.values())[:2])
        reversals = f"{row.results[HEADROOM].reversals_per_hour:.1f}"
        lines.append("| " + " | ".join([row.shape.title, *cells, changes, reversals]) + " |")
    return lines


def _other_table(rows: Sequence[Row]) -> list[str]:
    listed = {shape.name: shape for shape in LISTED}
    pairs = [(delay, target) for delay in START_DELAYS for target in TARGETS]
    found = {(row.shape.name, row.start_delay_seconds, row.target_lag_seconds): row for row in rows}
    lines = [
        "| load | " + " | ".join(f"{delay:g} / {target:g}" for delay, target in pairs) + " |",
        "| --- |" + " --- |" * len(pairs),
    ]
    for name, shape in listed.items():
        cells = [_cell(found[name, delay, shape.target_lag or target].results[HEADROOM]) for delay, target in pairs]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(result: Result) -> str:
    return f"{result.highest_lag:.0f} / {result.late_seconds:.0f} / {result.cost_ratio:.2f}"


def _describe_miss(judgement: Judgement) -> str:
    name, start, target, goal = judgement.key.split("/")
    where = f"{name}, start delay {start.removeprefix('start-')} s, target lag {target.removeprefix('target-')} s"
    digits = 3 if goal == "cost" else 2
    return f"{where}: {goal} {judgement.value:.{digits}f}, the goal is {judgement.limit:.2f}"


if __name__ == "__main__":
    sys.exit(main())
