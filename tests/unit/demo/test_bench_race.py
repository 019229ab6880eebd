"""The race's record: what counts as useful, as named and as a verdict; its figures and its picture."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.bench.race import FIGURES, pool
from e2e.bench.race_picture import draw
from e2e.bench.race_record import HELD_SECONDS, Record, Second, measure, throughputs, useful_count
from e2e.lab import results
from e2e.lab.results import Figure, add_to_results, write_results
from headroom.api.v1alpha1 import parse_spec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec

FROZEN = {
    "workersBefore": 2,
    "perSecondBefore": 15.0,
    "workersAfter": 4,
    "perSecondAfter": 15.1,
    "frozenWorkers": 3,
    "waitEvent": "Lock:tuple",
}
GAINED = {"workersBefore": 1, "perSecondBefore": 12.0, "workersAfter": 2, "perSecondAfter": 15.0, "gain": 0.25}
STOP = "4 workers do as much as 2 did (15 /s): they wait for Lock:tuple, held by `UPDATE race SET taken = taken + ?`"


def deployment(asked: int, ready: int) -> dict[str, Any]:
    return {"type": "MODIFIED", "object": {"spec": {"replicas": asked}, "status": {"readyReplicas": ready}}}


def pool_event(status: str, reason: str, message: str = "", shown: Any = None) -> dict[str, Any]:
    condition = {"type": "Effective", "status": status, "reason": reason, "message": message}
    return {"type": "MODIFIED", "object": {"status": {"conditions": [condition], "effectiveness": shown or {}}}}


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """One, two, four, three workers; the freeze after 90 s, fixed after 160 s; six workers drain the queue."""
    found = Record(started=1000.0)
    clock = [0.0]
    monkeypatch.setattr(Record, "now", lambda _self: clock[0])
    happened: tuple[tuple[float, Callable[[], None]], ...] = (
        (0.2, lambda: found.on_deployment(deployment(1, 1))),
        (0.3, lambda: found.on_pool(pool_event("Unknown", "NotYetObserved"))),
        (30.0, lambda: found.on_deployment(deployment(2, 2))),
        (50.0, lambda: found.on_pool(pool_event("True", "AsExpected", "", GAINED))),
        (55.0, lambda: found.on_pool(pool_event("True", "AsExpected", "", GAINED))),
        (60.0, lambda: found.on_deployment(deployment(4, 4))),
        (90.0, lambda: found.on_pool(pool_event("False", "NoGainFromMoreWorkers", STOP, FROZEN))),
        (90.1, lambda: found.on_event(event("NoGainFromMoreWorkers", STOP))),
        (91.0, lambda: found.on_deployment(deployment(3, 3))),
        (162.0, lambda: found.on_pool(pool_event("Unknown", "GrowthResumed"))),
        (162.1, lambda: found.on_event(event("GrowthResumed", "the pool may grow again"))),
        (162.2, lambda: found.on_event({"object": {"involvedObject": {"kind": "Pod"}, "reason": "Started"}})),
        (170.0, lambda: found.on_deployment(deployment(6, 6))),
    )
    for clock[0], take in happened:
        take()
    found.fixed_at = 160.0
    for at in range(220):
        backlog = 5.0 * at if at < 170 else max(0.0, 850 - 40 * (at - 170))
        found.on_queue({"t": 1000.0 + at, "backlog": backlog})
    rates = {at: 12 if at < 30 else 15 if at < 170 else 60 for at in range(220)}
    found.take_ended("\n".join(f"{1000.0 + at}|{rate}" for at, rate in rates.items()))
    return found


def event(reason: str, message: str) -> dict[str, Any]:
    return {"type": "ADDED", "object": {"involvedObject": {"kind": "WorkerPool"}, "reason": reason, "message": message}}


def test_each_published_verdict_counts_once(record: Record) -> None:
    steps = [(one.at, one.before, one.after, one.is_stop) for one in record.verdicts()]
    assert steps == [(50.0, 1, 2, False), (90.0, 2, 4, True)]
    assert [state.at for state in record.states] == [0.3, 50.0, 90.0, 162.0], "what did not change is not kept"
    assert [reason for _, reason, _ in record.events] == ["NoGainFromMoreWorkers", "GrowthResumed"]


def test_the_figures_of_a_race_that_was_named_and_fixed(record: Record) -> None:
    figures = measure(record)
    assert set(FIGURES) <= set(figures)
    values = {name: figures[name].value for name in figures}
    assert (values["useful_count"], values["free_rate"], values["highest_count"]) == (2, 12.0, 4)
    assert figures["highest_count"].goal == 4, "2 x 2 is more than 1.25 x 20 / 12"
    assert values["excess_to_named"] == pytest.approx(30.0), "from the step to four, the first above two"
    assert values["verdicts_until_named_count"] == 2
    assert (values["lock_named"], values["statement_named"]) == (1, 1)
    assert values["fix_to_lifted"] == pytest.approx(2.0)
    assert values["fix_to_drained"] == pytest.approx(31.0)
    assert (values["highest_count_after_fix"], figures["highest_count_after_fix"].goal) == (6, 4)
    assert all(figure.met is not False for figure in figures.values())


def test_a_race_that_is_never_named_has_no_such_figures(record: Record) -> None:
    record.states = record.states[:2]
    figures = measure(record)
    assert not {"excess_to_named", "lock_named", "statement_named"} & set(figures)
    assert set(FIGURES) - set(figures), "which fails the benchmark"
    assert measure(Record()) == {}


def test_a_count_far_above_the_useful_one_misses_its_goal(record: Record) -> None:
    record.asked.insert(4, (70.0, 30))
    assert measure(record)["highest_count"].met is False


def test_a_stop_at_the_useful_count_is_timed_from_the_first_step(record: Record) -> None:
    record.asked = [(0.0, 1), (30.0, 2), (170.0, 6)]
    record.ready = list(record.asked)
    assert measure(record)["excess_to_named"].value == pytest.approx(60.0)


def test_only_steady_seconds_with_work_tell_the_throughput() -> None:
    def second(at: int, ready: int, ended: int, backlog: float | None = 9.0) -> Second:
        return Second(at, ready, ready, ended, backlog, "Unknown")

    one = [second(at, 1, 99 if at < 5 else 10) for at in range(20)]
    two = [second(at, 2, 15) for at in range(20, 34)]
    idle = [second(at, 3, 90, 0.0) for at in range(34, 90)]
    assert throughputs([*one, *two, *idle]) == {1: 10.0}, "two was steady for nine counted seconds"
    assert useful_count({1: 14.4, 2: 15.0, 4: 14.9}) == 1
    assert useful_count({1: 14.0, 2: 15.0}) == 2
    assert useful_count({}) is None


def test_the_record_is_kept_as_json(record: Record) -> None:
    kept = json.loads(json.dumps(record.as_json()))
    assert kept["seconds"][100] == {
        "at": 100, "asked": 3, "ready": 3, "ended": 15, "backlog": 500.0, "effective": "False"
    }  # fmt: skip
    assert kept["states"][2]["message"] == STOP


def test_the_picture_is_drawn_with_and_without_samples(record: Record, tmp_path: Path) -> None:
    for name, one in (("full", record), ("empty", Record())):
        assert draw(one, tmp_path / f"{name}.png").stat().st_size > 10_000


def test_figures_are_added_to_results_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert add_to_results("bench-workers", "race", {"useful_count": Figure(2)}) is None
    path = write_results("bench-workers", {"loop_lag_p99": Figure(0.1)})
    assert add_to_results("bench-workers", "race", {"useful_count": Figure(2)}) == path
    assert set(json.loads(path.read_text())["figures"]) == {"loop_lag_p99", "race_useful_count"}


def test_the_pool_of_the_race_is_valid() -> None:
    spec = parse_spec(WorkerPoolSpec, pool())
    assert (spec.min_workers, spec.max_workers, spec.database_role) == (1, 30, "shop_worker")
    assert pytest.approx(16.0) == 1 / HELD_SECONDS
