"""Plays every case of a table once for each seed and each autoscaler, and puts the figures side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import mean
from typing import NamedTuple

from headroom.simulation.catalogue import LISTED
from headroom.simulation.run import KEDA_PARTS, Case, Figures, keda_for, optimum_seconds, play, play_headroom
from headroom.simulation.shapes import Shape
from headroom.simulation.traps import BY_NAME

HEADROOM = "Headroom"


@dataclass(frozen=True, slots=True)
class Played:
    """What came out of one case; the costs are worker-seconds."""

    figures: dict[str, Figures]
    optimum_seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What an autoscaler did with one load: the worst lag and count of all seeds, and means of the rest.

    `samples` has some of the numbers of each seed.
    """

    highest_lag: float
    late_seconds: float
    cost_ratio: float
    changes: float
    reversals_per_hour: float
    highest_workers: int
    cut: float
    samples: dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Row:
    """One load at one start delay and one target, under each autoscaler."""

    shape: Shape
    start_delay_seconds: float
    target_lag_seconds: float
    results: dict[str, Result]
    mean_workers: float

    @property
    def key(self) -> str:
        """The name of the row among the figures."""
        return f"{self.shape.name}/start-{self.start_delay_seconds:g}/target-{self.target_lag_seconds:g}"


def play_all(
    cases: Sequence[Case], *, jobs: int = 1, is_quick: bool = False, done: Callable[[], None] = lambda: None
) -> list[Played]:
    """Play cases, `jobs` at the same time; quick leaves KEDA out. `done` is called after each."""
    played = []
    for result in _map([Task.of(case, is_quick=is_quick) for case in cases], jobs):
        played.append(result)
        done()
    return played


def make_rows(cases: Sequence[Case], played: Iterable[Played]) -> list[Row]:
    """One row for all seeds of a case."""
    groups: dict[tuple[str, float, float], list[tuple[Case, Played]]] = {}
    for case, result in zip(cases, played, strict=True):
        groups.setdefault((case.shape.name, case.start_delay_seconds, case.target), []).append((case, result))
    return [_make_row(group) for group in groups.values()]


def make_cases(
    names: Sequence[str] = (),
    *,
    seeds: int = 3,
    start_delays: Sequence[float] = (5.0,),
    targets: Sequence[float] = (30.0,),
    is_notified: bool = False,
) -> list[Case]:
    """All combinations; a shape with its own target comes once for each start delay."""
    shapes = [BY_NAME[name] for name in names] or list(LISTED)
    return [
        Case(shape=shape, seed=seed, start_delay_seconds=delay, target_lag_seconds=target, is_notified=is_notified)
        for delay in start_delays
        for target in targets
        for shape in shapes
        if shape.target_lag is None or target == targets[0]
        for seed in range(1, seeds + 1)
    ]


class Task(NamedTuple):
    """A case as another process takes it: the shape by its name."""

    name: str
    seed: int
    start_delay_seconds: float
    target_lag_seconds: float
    is_notified: bool
    is_quick: bool

    @classmethod
    def of(cls, case: Case, *, is_quick: bool) -> "Task":
        """The task of a case."""
        times = case.start_delay_seconds, case.target_lag_seconds
        return cls(case.shape.name, case.seed, *times, case.is_notified, is_quick)

    def play(self) -> Played:
        """Play the case under each autoscaler."""
        case = Case(
            shape=BY_NAME[self.name],
            seed=self.seed,
            start_delay_seconds=self.start_delay_seconds,
            target_lag_seconds=self.target_lag_seconds,
            is_notified=self.is_notified,
        )
        figures = {HEADROOM: play_headroom(case)[0]}
        if not self.is_quick:
            figures |= {name: play(case, keda_for(case, share)) for name, share in KEDA_PARTS.items()}
        return Played(figures, optimum_seconds(case))


def _map(tasks: Sequence[Task], jobs: int) -> Iterator[Played]:
    if jobs <= 1:
        yield from map(Task.play, tasks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(Task.play, tasks)


def _make_row(group: Sequence[tuple[Case, Played]]) -> Row:
    case, first = group[0]
    seconds = case.shape.duration - case.shape.measured_from
    results = {
        name: _combine([(played.figures[name], played.optimum_seconds) for _, played in group])
        for name in first.figures
    }
    optimum = mean(played.optimum_seconds for _, played in group)
    return Row(case.shape, case.start_delay_seconds, case.target, results, optimum / seconds)


def _combine(runs: Sequence[tuple[Figures, float]]) -> Result:
    figures = [run for run, _ in runs]
    return Result(
        highest_lag=max(run.highest_lag for run in figures),
        late_seconds=mean(run.late_seconds for run in figures),
        cost_ratio=mean(run.worker_seconds / optimum for run, optimum in runs),
        changes=mean(run.changes for run in figures),
        reversals_per_hour=mean(run.reversals_per_hour for run in figures),
        highest_workers=max(run.highest_workers for run in figures),
        cut=mean(run.cut for run in figures),
        samples={
            "cost": tuple(run.worker_seconds / optimum for run, optimum in runs),
            "late": tuple(run.late_seconds for run in figures),
            "lag": tuple(run.highest_lag for run in figures),
            "reversals": tuple(run.reversals_per_hour for run in figures),
            "workers": tuple(float(run.highest_workers) for run in figures),
        },
    )
