"""The verdict: figures with their objectives, a picture of the timeline, a summary to read."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from e2e.demo.parts import PARTS, Course, activations, course_of
from e2e.demo.plan import JOBS_END, OBJECTIVES, TARGET_LAG_SECONDS, THRESHOLD_CONNECTIONS
from e2e.demo.primary import measure_primary
from e2e.demo.timeline import Timeline, crossing
from e2e.lab.results import RESULTS, Figure, at_most

SENTENCES = {
    "warm_first_read": "decision to the first read that the warm standby answered",
    "threshold_to_first_read": "connections above the threshold to that first read",
    "snapshot_first_read": "new replica from a snapshot: decision to first read, less its time as a standby",
    "cold_first_read": "new replica by base backup: decision to first read, less its time as a standby",
    "lag_peak": "longest lag of the queue",
    "time_above_target": f"time above the target lag of {TARGET_LAG_SECONDS} s",
    "lag_zero_after": "end of the burst of jobs to the queue at zero lag",
    "failed_reads_count": "reads that failed",
    "guard_worse_by_copy": "time in which the guard called the primary worse than before a replica was created",
    "commit_p99_calm": "slowest hundredth of small commits on the primary, while no replica was created",
    "commit_p99_copying": "the same while replicas were created",
    "commit_latency_peak": "slowest small commit on the primary",
    "invariants_violated_count": "invariants that did not hold, as a checker saw from outside",
    "guard_brownout_or_worse": "time in which the guard called the primary Brownout or worse",
}
"""What each figure says to a reader; programs find it in the JSON by its key."""
IDLE_SHARE = 0.25
"""Of the cores: a load average above it, before the demo begins, is other work."""
PROBLEMS_SHOWN, MOST_OF_PROBLEM = 3, 160
ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")
CLIENT_IS_BEHIND = 1.0
"""Seconds: two lines of the readers. A decision that is sooner than that has another cause, and the figure shows it."""
LAG_IS_ZERO = 1.0
"""Seconds: below this a queue is at realtime, as a probe each second can tell."""
UNWELL = """no objective, and not good: for {seconds:.0f} s the guard called the primary Brownout or worse; its
slowest small commit took {peak:.0f} ms. Replicas, workers and control plane share its disk and cores here."""


def threshold_crossed_at(timeline: Timeline) -> float | None:
    """When the readers' own connections first exceeded what one replica may carry.

    A server counts a session a moment before its client knows that it is open: then the decision shows the crossing.
    """
    crossed = crossing(((line["at"], line["connections"]) for line in timeline.reads), THRESHOLD_CONNECTIONS)
    decided = min((one.decided_at for one in activations(timeline)), default=None)
    if crossed is None or decided is None or not 0 < crossed - decided <= CLIENT_IS_BEHIND:
        return crossed
    return decided


def measure(timeline: Timeline) -> dict[str, Figure]:
    """Every figure that the run shows; what did not happen is absent."""
    joined = activations(timeline)
    warm = [one for one in joined if not one.replica.was_seeded_in_load]
    crossed = threshold_crossed_at(timeline)
    figures: dict[str, Figure] = {}
    if warm:
        figures["warm_first_read"] = at_most(warm[0].seconds, OBJECTIVES.warm_first_read)
        if crossed is not None:
            took = warm[0].first_read_at - crossed
            figures["threshold_to_first_read"] = at_most(took, OBJECTIVES.threshold_to_first_read)
    figures |= measure_new(timeline)
    if timeline.queue:
        peak = max(line["lag_seconds"] for line in timeline.queue)
        figures["lag_peak"] = at_most(peak, OBJECTIVES.lag_peak)
        figures["time_above_target"] = Figure(round(seconds_above_target(timeline), 1))
    back = lag_zero_after(timeline)
    if back is not None:
        figures["lag_zero_after"] = at_most(back, OBJECTIVES.lag_zero_after)
    if timeline.reads:
        failed = sum(line["errors"] for line in timeline.reads)
        figures["failed_reads_count"] = at_most(failed, OBJECTIVES.failed_reads_count, "reads")
    return {**figures, **measure_primary(timeline)}


def measure_new(timeline: Timeline) -> dict[str, Figure]:
    """The first replica of each method that was not there when the load began."""
    figures: dict[str, Figure] = {}
    for one in activations(timeline):
        course = course_of(one)
        if course is None or not one.replica.was_seeded_in_load:
            continue
        if one.replica.is_restored:
            figures.setdefault("snapshot_first_read", at_most(course.total, OBJECTIVES.snapshot_first_read))
        else:
            figures.setdefault("cold_first_read", Figure(round(course.total, 2)))
    return figures


def courses(timeline: Timeline) -> list[Course]:
    """The ways from a decision to a first read whose parts were all seen, in the order of their first reads."""
    return [course for one in activations(timeline) if (course := course_of(one))]


def seconds_above_target(timeline: Timeline) -> float:
    """How long the lag was above the target: each line counts until the next one."""
    spans = pairwise(timeline.queue)
    return sum(after["at"] - line["at"] for line, after in spans if line["lag_seconds"] > TARGET_LAG_SECONDS)


def lag_zero_after(timeline: Timeline) -> float | None:
    """Seconds from the end of the burst of jobs until the lag is back at zero and stays there."""
    late = [line["at"] for line in timeline.queue if line["lag_seconds"] > LAG_IS_ZERO]
    if not timeline.queue or (late and late[-1] >= timeline.queue[-1]["at"]):
        return None
    return max(0.0, (late[-1] if late else 0.0) - JOBS_END)


def missing(figures: dict[str, Figure], *, has_snapshots: bool = True) -> list[str]:
    """Objectives that were not measured at all."""
    new = "snapshot_first_read" if has_snapshots else "cold_first_read"
    needed = ("warm_first_read", new, "threshold_to_first_read", "lag_zero_after", "failed_reads_count")
    return [name for name in needed if name not in figures]


def print_summary(console: Console, figures: dict[str, Figure], absent: Sequence[str]) -> None:
    """The figures as a table of sentences, also those that are absent and should not be, and the verdict."""
    table = Table("what", "measured", "objective", "met", title="What came out")
    for name, figure in figures.items():
        met = "" if figure.met is None else "[green]yes[/]" if figure.met else "[red]no[/]"
        table.add_row(SENTENCES[name], amount(figure.value, figure.unit), objective_of(figure), met)
    for name in absent:
        table.add_row(SENTENCES[name], "[red]did not happen[/]", "", "[red]no[/]")
    console.print(table)
    missed = [name for name, figure in figures.items() if figure.met is False] + list(absent)
    said = "; ".join(SENTENCES[name] for name in missed)
    console.print(f"missed: {said}" if missed else "every objective was met")
    unwell = figures.get("guard_brownout_or_worse")
    if unwell and unwell.value:
        said = UNWELL.format(seconds=unwell.value, peak=figures["commit_latency_peak"].value)
        console.print(said, soft_wrap=True, highlight=False)


def print_courses(console: Console, found: Sequence[Course]) -> None:
    """The parts of each way from a decision to a first read, as a table, and what each part is."""
    if not found:
        return
    table = Table("replica", *PARTS, "all", title="From decision to first read, by parts, in seconds")
    for course in found:
        cells = (f"{seconds:.2f}" if seconds else "-" for seconds in course.seconds)
        table.add_row(course.name, *cells, f"{course.total:.2f}")
    console.print(table)
    for name, meaning in PARTS.items():
        console.print(f"  {name}: {meaning}", soft_wrap=True, highlight=False)


def describe_load(timeline: Timeline, cores: int) -> str:
    """How busy the machine was before the demo and during its load: figures of a busy machine say little."""
    during = [load for _, load in timeline.loads]
    if timeline.load_before is None or not during:
        return ""
    text = (
        f"load average of a minute, on {cores} cores: {timeline.load_before:.1f} before the demo, "
        f"{min(during):.1f} to {max(during):.1f} while the load ran"
    )
    if timeline.load_before > IDLE_SHARE * cores:
        return f"{text}. The machine was not idle before: run the demo again when it is, since other work slows it down"
    return text


def describe_problems(problems: Sequence[str]) -> str:
    """The most frequent reasons of reads that failed; the others are in the JSON."""
    counted = Counter(ADDRESS.sub("ADDRESS", " ".join(problem.split()))[:MOST_OF_PROBLEM] for problem in problems)
    lines = [f"  {count} times: {problem}" for problem, count in counted.most_common(PROBLEMS_SHOWN)]
    rest = len(counted) - len(lines)
    more = [f"  and {rest} more, in `problems` of the figures"] if rest > 0 else []
    return "\n".join(["why reads failed:", *lines, *more]) if lines else ""


def amount(value: float, unit: str) -> str:
    """A measured value as one reads it: three digits, and no power of ten."""
    if unit == "reads":
        return f"{value:.0f}"
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def objective_of(figure: Figure) -> str:
    """The bound in words."""
    if figure.goal is None:
        return "none"
    return (
        f"{figure.goal:.0f} failed reads allowed"
        if figure.unit == "reads"
        else f"at most {figure.goal:g} {figure.unit}"
    )


def picture_path() -> Path:
    """Where the timeline's picture goes."""
    return RESULTS / "demo.png"
