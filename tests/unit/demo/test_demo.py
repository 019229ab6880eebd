"""What the demo shows: the newest decision on a small terminal, sentences for figures, the primary beside the rest."""

from pathlib import Path

import pytest
from rich.console import Console

from e2e.demo.picture import draw
from e2e.demo.report import SENTENCES, measure, missing, objective_of, print_summary
from e2e.demo.timeline import Decision, GuardSample, Timeline
from e2e.demo.view import render, sparkline
from e2e.invariants.patrol import Watch

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


def test_every_figure_and_every_missing_one_is_a_sentence(timeline: Timeline, tmp_path: Path) -> None:
    figures = measure(timeline) | Watch().figures()
    console = Console(width=160, color_system=None, record=True)
    with console.capture() as captured:
        print_summary(console, figures, tmp_path / "demo.json", tmp_path / "demo.png")
    text = captured.get()
    named = {*figures, *missing(figures)}
    assert len(named) == len(SENTENCES)
    assert all(SENTENCES[name] in text and name not in text for name in named)
    assert objective_of(figures["failed_reads_count"]) == "0 failed reads allowed"
    assert "for 50 s the guard called the primary Brownout or worse" in text


def test_the_picture_is_drawn_with_and_without_samples(timeline: Timeline, tmp_path: Path) -> None:
    for name, one in (("full", timeline), ("empty", Timeline())):
        assert draw(one, tmp_path / f"{name}.png").stat().st_size > 10_000
