"""What the primary bore: its commits and the state that its guard saw, and both while a new replica was created."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from e2e.demo.plan import OBJECTIVES
from e2e.demo.timeline import Timeline
from e2e.lab.results import Figure, at_most, percentile

Span = tuple[float, float]
SLOWEST = 0.99
WELL = ("Healthy", "Unknown")
"""Unknown is shown as such, and is no bad state."""
WORSE = ("Healthy", "Brownout", "Overloaded", "Emergency", "Unknown")
"""From calm to silent."""
NOTICED = 15.0
"""Seconds: the guard enters a state by two of three samples of five seconds, so a copy may be over before it does."""


def measure_primary(timeline: Timeline) -> dict[str, Figure]:
    """Its figures over the whole load, and while a replica was created beside the rest of the time."""
    return {**_measure_whole(timeline), **_measure_copies(timeline)}


def _measure_whole(timeline: Timeline) -> dict[str, Figure]:
    """No objective: replicas, workers and primary share cores and one disk here."""
    if not timeline.commits:
        return {}
    states = seconds_by_state(timeline, [(0.0, end_of(timeline))])
    unwell = sum(seconds for state, seconds in states.items() if state not in WELL)
    return {
        "commit_latency_peak": Figure(round(max(took for _, took in timeline.commits), 1), "ms"),
        "guard_brownout_or_worse": Figure(round(unwell, 1)),
    }


def _measure_copies(timeline: Timeline) -> dict[str, Figure]:
    windows = copies(timeline)
    calm, copying = split_commits(timeline, windows)
    if not calm or not copying:
        return {}
    calm_ms, copying_ms = (percentile(samples, SLOWEST) for samples in (calm, copying))
    return {
        "guard_worse_by_copy": at_most(round(seconds_worse(timeline, windows), 1), OBJECTIVES.guard_worse_by_copy),
        "commit_p99_calm": Figure(round(calm_ms, 1), "ms"),
        "commit_p99_copying": Figure(round(copying_ms, 1), "ms"),
    }


def copies(timeline: Timeline) -> list[Span]:
    """When a replica was created in the load, from its request until it could serve, in seconds of the load."""
    end = end_of(timeline)
    return sorted(
        (replica.asked_at - timeline.started, min(end, (replica.able_at or timeline.started + end) - timeline.started))
        for replica in timeline.replicas()
        if replica.was_seeded_in_load and replica.asked_at is not None
    )


def end_of(timeline: Timeline) -> float:
    """The last sample of the queue, in seconds of the load."""
    return max((line["at"] for line in timeline.queue), default=0.0)


def slowest_each_second(timeline: Timeline) -> list[tuple[int, float]]:
    """The seconds of the load in which commits began, each with the milliseconds of its slowest."""
    found: dict[int, float] = {}
    for at, took in timeline.commits:
        found[int(at)] = max(took, found.get(int(at), 0.0))
    return sorted(found.items())


def split_commits(timeline: Timeline, windows: Sequence[Span]) -> tuple[list[float], list[float]]:
    """Milliseconds of the commits that met no copy, and of those that met one, by when they were under way."""
    calm: list[float] = []
    copying: list[float] = []
    for at, took in timeline.commits:
        is_met = any(since <= at + took / 1000 and at <= until for since, until in windows)
        (copying if is_met else calm).append(took)
    return calm, copying


def seconds_by_state(timeline: Timeline, windows: Iterable[Span]) -> dict[str, float]:
    """How long the guard called the primary what, within these windows; before its first word it is Unknown."""
    samples = list(timeline.guard)
    times = [0.0, *(max(0.0, sample.at) for sample in samples), end_of(timeline)]
    states = ["Unknown", *(sample.state for sample in samples)]
    found: defaultdict[str, float] = defaultdict(float)
    for begin, end in windows:
        for state, since, until in zip(states, times, times[1:], strict=False):
            found[state] += max(0.0, min(end, until) - max(begin, since))
    return {state: seconds for state, seconds in found.items() if seconds}


def seconds_worse(timeline: Timeline, windows: Iterable[Span]) -> float:
    """How long the guard called the primary worse than when a window began, in it and until it is noticed."""
    total = 0.0
    for begin, end in windows:
        known = [WORSE.index(sample.state) for sample in timeline.guard if sample.at <= begin]
        before = known[-1] if known else WORSE.index("Unknown")
        states = seconds_by_state(timeline, [(begin, min(end + NOTICED, end_of(timeline)))])
        total += sum(seconds for state, seconds in states.items() if WORSE.index(state) > before)
    return total


def describe_states(timeline: Timeline) -> str:
    """Why the guard left each state for a worse one in the load, in its own words; empty if it did not."""
    known = [sample for sample in timeline.guard if sample.state not in WELL]
    first = {sample.state: sample for sample in reversed(known)}
    lines = [f"  from {max(0.0, one.at):.0f} s: {one.words}" for one in reversed(first.values())]
    return "\n".join(["what the guard said of the primary:", *lines]) if lines else ""


def describe_copies(timeline: Timeline) -> str:
    """The guard's states and the commits while replicas were created, in words; empty if none was."""
    windows = copies(timeline)
    calm, copying = split_commits(timeline, windows)
    if not windows:
        return ""
    states = seconds_by_state(timeline, windows)
    said = ", ".join(f"{state} {seconds:.1f} s" for state, seconds in states.items())
    total = sum(until - since for since, until in windows)
    return (
        f"new replicas in the load: {len(windows)}, created in {total:.1f} s; in that time the guard called the "
        f"primary: {said}. Commits in that time: {len(copying)}, in the rest: {len(calm)}"
    )
