"""What the demo shows: the newest decision on a small terminal, sentences for figures, the primary beside the rest."""

import importlib
from pathlib import Path

import matplotlib.pyplot as plt
import psycopg
import pytest
from rich.console import Console

from e2e.demo.__main__ import PAGE_COLUMNS, fold, tell_decisions
from e2e.demo.picture import draw, draw_primary
from e2e.demo.plan import TARGET_LAG_SECONDS, THRESHOLD_CONNECTIONS
from e2e.demo.report import (
    SENTENCES,
    describe_load,
    describe_problems,
    measure,
    missing,
    objective_of,
    print_summary,
    threshold_crossed_at,
)
from e2e.demo.timeline import Decision, GuardSample, Timeline
from e2e.demo.view import plain_line, render, sparkline
from e2e.invariants.patrol import Watch

APPS = Path(__file__).parents[3] / "e2e" / "apps"
COPYING = {"guard_worse_by_copy", "commit_p99_calm", "commit_p99_copying"}
WORDS = "Queue ArrivalsCovered: 7 workers wanted: 30.1 jobs/s arrive, 39.2/s expected in 1 s; one worker does 9.28/s"


@pytest.fixture
def timeline() -> Timeline:
    """A hundred seconds with twelve decisions and one bad stretch of the primary."""
    found = Timeline(started=1000.0)
    for at in range(100):
        found.on_queue({"t": 1000.0 + at, "rate": 4.0, "deferred": 4 * at, "backlog": 1, "lag_seconds": 0.1})
        found.on_reads({"t": 1000.0 + at, "connections": 30, "reads": 9, "errors": 0, "p50_ms": 1.0, "p99_ms": 9.0})
    found.decisions = [Decision("WorkerPool", 1000.0 + 8 * n, n, n + 1, WORDS) for n in range(1, 13)]
    found.workers = [(0.0, 1)]
    found.counts = [{"at": 0.0, "provisioning": 0, "standby": 1, "serving": 1, "draining": 0}]
    found.guard = [GuardSample(-3, "Unknown"), GuardSample(0, "Healthy", 4), GuardSample(40, "Overloaded", 1088)]
    found.guard.append(GuardSample(70, "Brownout", 5))
    found.guard.append(GuardSample(90, "Healthy", 5))
    found.commits = [(0.5 * n, 1088.0 if n == 100 else 4.0) for n in range(200)]
    return found


def screen(timeline: Timeline, width: int, height: int) -> list[str]:
    console = Console(width=width, height=height, color_system=None)
    lines = console.render_lines(render(timeline, 1100.0, console))
    return ["".join(part.text for part in line) for line in lines]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 30), (140, 45)])
def test_the_view_fits_the_terminal_and_begins_with_the_newest_decision(
    timeline: Timeline, width: int, height: int
) -> None:
    lines = screen(timeline, width, height)
    decided = [line for line in lines if "WorkerPool" in line]
    assert len(lines) < height
    assert "12 → 13" in decided[0]
    assert len(decided) >= 3
    assert [line.split()[1] for line in decided] == [str(8 * n) for n in range(12, 12 - len(decided), -1)]


def test_what_was_decided_before_the_load_is_not_told(timeline: Timeline) -> None:
    """Seconds count from the beginning of the load."""
    timeline.decisions = [Decision("WorkerPool", at, None, 1, WORDS) for at in (946.0, 1003.0)]
    console = Console(width=PAGE_COLUMNS, color_system=None)
    with console.capture() as captured:
        assert tell_decisions(timeline, console, 0) == 1
    assert captured.get().split()[:2] == ["3", "s"]
    assert sum("WorkerPool" in line for line in screen(timeline, 140, 45)) == 1


def test_a_terminal_without_room_shows_the_newest_decision_alone(timeline: Timeline) -> None:
    decided = [line for line in screen(timeline, 80, 10) if "WorkerPool" in line]
    assert len(decided) == 1
    assert "12 → 13" in decided[0]


def test_the_view_names_the_state_of_the_primary(timeline: Timeline) -> None:
    timeline.guard = timeline.guard[:3]
    assert any("primary's commits" in line and "1088 ms, Overloaded" in line for line in screen(timeline, 80, 24))


def test_a_quiet_row_has_low_bars() -> None:
    assert sparkline([0, 1, 0], least=40) == "   "
    assert sparkline([0, 40, 80], least=40) == " ▄█"


def test_the_guard_is_read_from_the_resource() -> None:
    timeline = Timeline()
    timeline.on_guard({"object": {"kind": "DatabaseGuard"}})
    timeline.on_guard({"object": {"status": {"state": "Brownout", "commitLatencyMilliseconds": 500.5}}})
    assert [(one.state, one.commit_ms) for one in timeline.guard] == [("Unknown", None), ("Brownout", 500.5)]


def test_what_the_primary_bore_is_counted(timeline: Timeline) -> None:
    figures = measure(timeline)
    assert figures["commit_latency_peak"].value == 1088
    assert figures["guard_brownout_or_worse"].value == 50


@pytest.mark.parametrize(
    ("decided", "crossed"),
    [(49.8, 49.8), (51.0, 50.0), (40.0, 50.0)],
    ids=["before the client knows", "after it", "for another cause"],
)
def test_a_decision_shows_the_crossing_that_clients_see_late(
    timeline: Timeline, decided: float, crossed: float
) -> None:
    """A decision for another cause is not hidden: the figure is negative then."""
    timeline.reads = [
        {"at": at, "connections": count} for at, count in ((49.0, 0.0), (51.0, 2 * THRESHOLD_CONNECTIONS))
    ]
    pod = {
        "metadata": {"name": "store-1", "creationTimestamp": "1970-01-01T00:00:00Z"},
        "status": {"podIP": "10.0.0.1"},
    }
    timeline.pods, timeline.labelled, timeline.first_reads = {"store-1": pod}, {"store-1": 1052.0}, {"10.0.0.1": 1052.0}
    timeline.decisions = [Decision("ReplicaSet", 1000.0 + decided, 1, 2, "")]
    assert threshold_crossed_at(timeline) == pytest.approx(crossed)


def test_every_figure_and_every_missing_one_is_a_sentence(timeline: Timeline) -> None:
    figures = measure(timeline) | Watch().figures()
    console = Console(width=160, color_system=None, record=True)
    with console.capture() as captured:
        print_summary(console, figures, missing(figures))
    text = captured.get()
    named = {*figures, *missing(figures)}
    assert {*SENTENCES} - named == {"cold_first_read", *COPYING}
    assert all(SENTENCES[name] in text and name not in text for name in named)
    assert objective_of(figures["failed_reads_count"]) == "0 failed reads allowed"
    assert "for 50 s the guard called the primary Brownout or worse" in text


def test_a_moment_without_an_answered_read_has_no_latency(timeline: Timeline) -> None:
    """A zero would be the best latency there is."""
    timeline.on_reads({"t": 1100.0, "connections": 0, "reads": 0, "errors": 9, "p50_ms": None, "p99_ms": None})
    assert "p99 - failed 9" in plain_line(timeline, 1101.0)
    (row,) = (line for line in screen(timeline, 80, 24) if "read latency p99" in line)
    assert row.rstrip(" │").endswith("-")
    assert sparkline([0, None, 80], least=40) == " -█"


def test_a_line_of_a_pipe_is_no_wider_than_a_page(timeline: Timeline) -> None:
    timeline.on_reads({"t": 1100.0, "connections": 180, "reads": 9, "errors": 12, "p50_ms": 1.0, "p99_ms": 1234.5})
    timeline.on_queue({"t": 1100.0, "rate": 4.0, "deferred": 4, "backlog": 1234, "lag_seconds": 44.4})
    timeline.guard = timeline.guard[:3]
    assert len(plain_line(timeline, 1240.0)) <= PAGE_COLUMNS
    folded = fold(f"   8 s  WorkerPool  1 → 2  {WORDS}; {WORDS}").splitlines()
    assert len(folded) == 2
    assert max(map(len, folded)) <= PAGE_COLUMNS


def test_the_verdict_says_how_busy_the_machine_was(timeline: Timeline) -> None:
    timeline.loads = [(0.0, 1.25), (50.0, 5.0), (99.0, 4.0)]
    assert describe_load(timeline, 2) == "", "not known"
    timeline.load_before = 0.3
    calm = describe_load(timeline, 2)
    assert calm == "load average of a minute, on 2 cores: 0.3 before the demo, 1.2 to 5.0 while the load ran"
    timeline.load_before = 3.0
    assert "was not idle before" in describe_load(timeline, 2)
    assert "was not idle before" not in describe_load(timeline, 16)


def test_the_verdict_says_why_reads_failed() -> None:
    refused = 'connection to server at "10.96.0.{}", port 5432 failed:\n  Connection refused'
    problems = [refused.format(n) for n in range(5)] + ["timeout expired"] * 7 + ["a", "b", "b"]
    text = describe_problems(problems).splitlines()
    assert text == [
        "why reads failed:",
        "  7 times: timeout expired",
        '  5 times: connection to server at "ADDRESS", port 5432 failed: Connection refused',
        "  2 times: b",
        "  and 1 more, in `problems` of the figures",
    ]
    assert describe_problems([]) == ""


async def test_the_readers_count_open_connections_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that cannot connect nor one that waits to try again, and no latency without a read."""
    monkeypatch.syspath_prepend(str(APPS))
    readers = importlib.import_module("readers")
    tally = readers.Tally()
    seen: list[int] = []

    class Broken:
        async def __aenter__(self) -> "Broken":
            return self

        async def __aexit__(self, *_error: object) -> None:
            return None

        async def execute(self, *_query: object) -> None:
            seen.append(tally.connections)
            raise psycopg.OperationalError("broken")

    async def connect(*_arguments: object, **_options: object) -> Broken:
        seen.append(tally.connections)
        return Broken()

    async def sleep(_seconds: float) -> None:
        seen.append(tally.connections)

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect)
    monkeypatch.setattr(readers.asyncio, "sleep", sleep)
    await readers.live(tally, 1, 1.0, 1.0)
    assert seen == [0, 1, 0], "before it is open, while it is, and in the pause after it broke"
    line = tally.line()
    assert (line["connections"], line["reads"], line["errors"]) == (0, 0, 1)
    assert line["p50_ms"] is line["p99_ms"] is None
    tally.read("10.0.0.1", 3.0)
    assert tally.line()["p99_ms"] == 3.0


def test_the_time_above_the_target_is_a_row_of_the_verdict(timeline: Timeline) -> None:
    assert measure(timeline)["time_above_target"].value == 0
    for line in timeline.queue[20:35]:
        line["lag_seconds"] = TARGET_LAG_SECONDS + 1.0
    assert measure(timeline)["time_above_target"].value == 15
    assert SENTENCES["time_above_target"] == f"time above the target lag of {TARGET_LAG_SECONDS} s"


def test_the_legend_of_the_primary_is_above_its_highest_commit(timeline: Timeline) -> None:
    axes = plt.figure().add_subplot()
    draw_primary(axes, timeline)
    legend = axes.get_legend()
    assert legend is not None
    axes.figure.canvas.draw()
    bottom = legend.get_window_extent().transformed(axes.transData.inverted()).y0
    assert bottom > 1088


def test_the_picture_is_drawn_with_and_without_samples(timeline: Timeline, tmp_path: Path) -> None:
    timeline.on_reads({"t": 1100.0, "connections": 0, "reads": 0, "errors": 9, "p50_ms": None, "p99_ms": None})
    for name, one in (("full", timeline), ("empty", Timeline())):
        assert draw(one, tmp_path / f"{name}.png").stat().st_size > 10_000
