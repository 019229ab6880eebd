"""The verdict: figures with their objectives, a picture of the timeline, a summary to read."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from e2e.demo.plan import JOBS_END, OBJECTIVES, TARGET_LAG_SECONDS, THRESHOLD_CONNECTIONS
from e2e.demo.timeline import Decision, Replica, Timeline, crossing
from e2e.lab.results import RESULTS, Figure, at_most

SENTENCES = {
    "warm_first_read": "decision to the first read that the warm standby answered",
    "threshold_to_first_read": "connections above the threshold to that first read",
    "cold_first_read": "a replica that was not there: copied by base backup, then its first read",
    "lag_peak": "longest lag of the queue",
    "time_above_target": f"time above the target lag of {TARGET_LAG_SECONDS} s",
    "lag_zero_after": "end of the burst of jobs to the queue at zero lag",
    "failed_reads_count": "reads that failed",
    "commit_latency_peak": "slowest small commit on the primary, as its guard saw it",
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
slowest small commit took {peak:.0f} ms. Base backups are copied from it, and replicas share its disk here;
`provisioning.maxRate` bounds a copy where that matters."""


@dataclass(frozen=True, slots=True)
class Activation:
    """A replica that came to serve while the load ran; seconds since the load began."""

    replica: Replica
    decided_at: float
    first_read_at: float

    @property
    def seconds(self) -> float:
        """From the decision to the first read it answered."""
        return self.first_read_at - self.decided_at


def activations(timeline: Timeline) -> list[Activation]:
    """Replicas that answered their first read during the load, each with the decision that asked for it.

    The decision of the n-th replica is the first one that wanted at least n serving ones.
    """
    joined = sorted(
        (replica for replica in timeline.replicas() if replica.labelled_at and replica.first_read_at),
        key=lambda replica: replica.first_read_at or 0,
    )
    found = []
    for position, replica in enumerate(joined, start=2):
        decided = _decision_for(timeline.decisions, position)
        if decided and replica.first_read_at:
            found.append(Activation(replica, decided.at - timeline.started, replica.first_read_at - timeline.started))
    return found


def _decision_for(decisions: Sequence[Decision], serving: int) -> Decision | None:
    ups = (one for one in decisions if one.who == "ReplicaSet" and (one.before or 0) < serving <= one.after)
    return min(ups, key=lambda one: one.at, default=None)


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
    cold = [one for one in joined if one.replica.was_seeded_in_load]
    crossed = threshold_crossed_at(timeline)
    figures: dict[str, Figure] = {}
    if warm:
        figures["warm_first_read"] = at_most(warm[0].seconds, OBJECTIVES.warm_first_read)
        if crossed is not None:
            took = warm[0].first_read_at - crossed
            figures["threshold_to_first_read"] = at_most(took, OBJECTIVES.threshold_to_first_read)
    if cold:
        figures["cold_first_read"] = Figure(round(cold_seconds(cold[0].replica), 2))
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


def measure_primary(timeline: Timeline) -> dict[str, Figure]:
    """What the primary bore, by its guard; no objective, for copy and primary share one disk here."""
    commits = [sample.commit_ms for sample in timeline.guard if sample.commit_ms is not None]
    if not commits:
        return {}
    end = max((line["at"] for line in timeline.queue), default=0.0)
    times = [max(0.0, sample.at) for sample in timeline.guard] + [end]
    spans = zip(timeline.guard, times, times[1:], strict=False)
    unwell = sum(
        max(0.0, until - since) for sample, since, until in spans if sample.state not in ("Healthy", "Unknown")
    )
    return {
        "commit_latency_peak": Figure(round(max(commits), 1), "ms"),
        "guard_brownout_or_worse": Figure(round(unwell, 1)),
    }


def cold_seconds(replica: Replica) -> float:
    """What a replica costs that is not there yet: from the making of its pod until it could serve, and its activation.

    The pool is refilled before the next one is needed, so the wait for that need is left out.
    """
    assert replica.asked_at and replica.able_at and replica.labelled_at and replica.first_read_at  # noqa: PT018
    return (replica.able_at - replica.asked_at) + (replica.first_read_at - replica.labelled_at)


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


def missing(figures: dict[str, Figure]) -> list[str]:
    """Objectives that were not measured at all."""
    needed = ("warm_first_read", "cold_first_read", "threshold_to_first_read", "lag_zero_after", "failed_reads_count")
    return [name for name in needed if name not in figures]


def print_summary(
    console: Console, figures: dict[str, Figure], path: Path, picture: Path, circumstances: Sequence[str] = ()
) -> None:
    """The figures as a table of sentences, then what a reader must know of the run."""
    table = Table("what", "measured", "objective", "met", title="What came out")
    for name, figure in figures.items():
        met = "" if figure.met is None else "[green]yes[/]" if figure.met else "[red]no[/]"
        table.add_row(SENTENCES[name], amount(figure.value, figure.unit), objective_of(figure), met)
    for name in missing(figures):
        table.add_row(SENTENCES[name], "[red]did not happen[/]", "", "[red]no[/]")
    console.print(table)
    missed = [name for name, figure in figures.items() if figure.met is False] + missing(figures)
    said = "; ".join(SENTENCES[name] for name in missed)
    console.print(f"missed: {said}" if missed else "every objective was met")
    unwell = figures.get("guard_brownout_or_worse")
    if unwell and unwell.value:
        said = UNWELL.format(seconds=unwell.value, peak=figures["commit_latency_peak"].value)
        console.print(said, soft_wrap=True, highlight=False)
    for text in circumstances:
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    console.print(f"figures: {path}\npicture: {picture}")


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
