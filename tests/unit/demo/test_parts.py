"""The way from decision to first read in parts, as a watch tells it, and what the primary bore meanwhile."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from rich.console import Console

from e2e.demo import timeline as timeline_module
from e2e.demo.parts import PARTS, WARM, Course
from e2e.demo.parts_picture import draw_parts
from e2e.demo.picture import draw, draw_primary
from e2e.demo.plan import OBJECTIVES
from e2e.demo.primary import copies, describe_copies, describe_states, measure_primary, slowest_each_second
from e2e.demo.report import courses, measure, missing, print_courses
from e2e.demo.timeline import SERVER, Decision, GuardSample, Timeline
from headroom.manifests import pod as operator_pod

BEGAN = 1_000_000.0
RESTORED = {"dataSource": {"kind": "VolumeSnapshot", "name": "store-s-1"}}
OLD, NEW = "1970-01-01T00:00:00Z", "1970-01-12T13:47:00Z"


def pod(name: str, role: str, *, created: str = OLD, running: bool = True) -> dict[str, Any]:
    states = [{"name": "seed", "state": {"running": {}}}, {"name": SERVER, "state": {"running": {}} if running else {}}]
    return {
        "metadata": {"name": name, "labels": {"headroom.dev/role": role}, "creationTimestamp": created},
        "status": {"podIP": f"ip-{name}", "containerStatuses": states},
    }


class Story:
    """Events that a watch told at the seconds of the load that are given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.timeline = Timeline(started=BEGAN)
        self.now = BEGAN
        patch.setattr(timeline_module.time, "time", lambda: self.now)

    def pod(self, at: float, name: str, role: str, **options: Any) -> None:
        self.now = BEGAN + at
        self.timeline.on_pod({"type": "MODIFIED", "object": pod(name, role, **options)})

    def claim(self, at: float, name: str, phase: str, **spec: Any) -> None:
        self.now = BEGAN + at
        self.timeline.on_claim({"object": {"metadata": {"name": name}, "spec": spec, "status": {"phase": phase}}})

    def decide(self, at: float, before: int, after: int) -> None:
        self.timeline.decisions.append(Decision("ReplicaSet", BEGAN + at, before, after, "more"))

    def read(self, at: float, name: str) -> None:
        self.timeline.on_reads({"t": BEGAN + at, "errors": 0, "connections": 9, "first": {f"ip-{name}": BEGAN + at}})

    def queue(self, end: int) -> None:
        for at in range(end + 1):
            self.timeline.on_queue({"t": BEGAN + at, "rate": 4.0, "backlog": 0, "lag_seconds": 0.0})


def tell(story: Story, **claim: Any) -> Timeline:
    """One is taken warm, a new one is made in its place, stands by, and serves half a minute later."""
    story.pod(0, "store-0", "serving")
    story.pod(0, "store-1", "standby")
    story.decide(39.0, 1, 2)
    story.pod(39.1, "store-1", "serving")
    story.read(39.2, "store-1")
    story.claim(39.3, "store-2", "Pending", **claim)
    story.pod(39.4, "store-2", "provisioning", created=NEW, running=False)
    story.claim(40.1, "store-2", "Bound", **claim)
    story.pod(42.6, "store-2", "provisioning", created=NEW)
    story.pod(44.1, "store-2", "standby", created=NEW)
    story.decide(74.0, 2, 3)
    story.pod(74.2, "store-2", "serving", created=NEW)
    story.read(74.3, "store-2")
    story.queue(100)
    return story.timeline


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    return Story(monkeypatch)


def test_each_part_lasts_from_one_event_to_the_next(story: Story) -> None:
    warm, new = courses(tell(story, **RESTORED))
    assert warm == Course(WARM, pytest.approx((0.1, 0, 0, 0, 0.1)))
    assert new == Course("a new one, from a snapshot", pytest.approx((0.3, 0.8, 2.5, 1.5, 0.1)))
    assert new.total == pytest.approx(5.2)


def test_the_container_of_the_server_has_the_name_that_the_operator_gives_it() -> None:
    assert SERVER == operator_pod.SERVER


def test_one_from_a_snapshot_has_an_objective_and_a_copied_one_does_not_replace_it(story: Story) -> None:
    restored = measure(tell(story, **RESTORED))
    assert restored["snapshot_first_read"].value == pytest.approx(5.2)
    assert restored["snapshot_first_read"].goal == OBJECTIVES.snapshot_first_read
    assert "snapshot_first_read" not in missing(restored)
    copied = measure(tell(Story(pytest.MonkeyPatch())))
    assert copied["cold_first_read"].value == pytest.approx(5.2)
    assert copied["cold_first_read"].goal is None
    assert "snapshot_first_read" in missing(copied)
    assert "cold_first_read" not in missing(copied, has_snapshots=False)


def test_what_a_watch_told_after_the_first_read_was_there_before_it(story: Story) -> None:
    """A watch is another way than a read, so it may be later; no part is negative, and the sum is the whole time."""
    story.pod(0, "store-0", "serving")
    story.pod(0, "store-1", "standby")
    story.decide(39.0, 1, 2)
    story.read(39.1, "store-1")
    story.pod(39.2, "store-1", "serving")
    (warm,) = courses(story.timeline)
    assert warm.seconds == pytest.approx((0.1, 0, 0, 0, 0))


def test_a_way_that_was_not_seen_as_a_whole_has_no_parts(story: Story) -> None:
    timeline = tell(story, **RESTORED)
    del timeline.bound["store-2"]
    assert [course.name for course in courses(timeline)] == [WARM]
    assert "snapshot_first_read" in missing(measure(timeline))


def test_a_replica_that_never_can_serve_is_made_until_the_end(story: Story) -> None:
    story.pod(39.0, "store-2", "provisioning", created=NEW)
    story.queue(100)
    assert copies(story.timeline) == [(pytest.approx(39.0), 100)]


def test_commits_are_held_against_those_of_the_rest_of_the_load(story: Story) -> None:
    timeline = tell(story, **RESTORED)
    timeline.guard = [GuardSample(-9.0, "Healthy"), GuardSample(43.1, "Brownout"), GuardSample(60.0, "Healthy")]
    timeline.commits = [(0.05 * n, 4.0) for n in range(400)]
    timeline.commits += [(39.2995, 5.9), (44.0, 1.0), (44.2, 3.0)]
    figures = measure_primary(timeline)
    assert figures["commit_p99_calm"].value == 4.0
    assert figures["commit_p99_copying"].value == 5.9
    assert figures["guard_brownout_or_worse"].value == pytest.approx(16.9)
    said = describe_copies(timeline)
    assert "new replicas in the load: 1, created in 4.8 s" in said
    assert "Healthy 3.8 s, Brownout 1.0 s. Commits in that time: 2, in the rest: 401" in said


@pytest.mark.parametrize(
    ("states", "worse"),
    [
        ({-9: "Healthy"}, 0.0),
        ({-9: "Healthy", 42: "Brownout", 60: "Healthy"}, 17.1),
        ({-9: "Healthy", 55: "Unknown"}, 4.1),
        ({-9: "Healthy", 60: "Overloaded"}, 0.0),
        ({-9: "Healthy", 36: "Brownout"}, 0.0),
        ({-9: "Healthy", 36: "Brownout", 50: "Overloaded", 54: "Brownout"}, 4.0),
    ],
    ids=["calm", "by the copy", "silent soon after", "later", "by the load before it", "still worse by the copy"],
)
def test_a_copy_is_to_blame_for_what_became_worse_in_its_time(
    story: Story, states: dict[int, str], worse: float
) -> None:
    """It lasts from 39.3 to 44.1 s, and the guard needs up to 15 s more to notice."""
    timeline = tell(story, **RESTORED)
    timeline.commits = [(1.0, 4.0), (42.0, 4.0)]
    timeline.guard = [GuardSample(at, state) for at, state in states.items()]
    figure = measure_primary(timeline)["guard_worse_by_copy"]
    assert figure.value == pytest.approx(worse)
    assert figure.met is (worse == 0)


def test_the_guard_says_why_the_primary_was_not_healthy(story: Story) -> None:
    for at, state in (
        (-9.0, "Healthy"),
        (35.2, "Brownout"),
        (45.0, "Brownout"),
        (60.0, "Overloaded"),
        (90.0, "Healthy"),
    ):
        story.now = BEGAN + at
        conditions = [{"type": "SignalAvailable", "message": f"{state} since {at}"}]
        story.timeline.on_guard({"object": {"status": {"state": state, "conditions": conditions}}})
    assert describe_states(story.timeline).splitlines() == [
        "what the guard said of the primary:",
        "  from 35 s: Brownout since 35.2",
        "  from 60 s: Overloaded since 60.0",
    ]
    assert describe_states(Timeline()) == ""


def test_without_a_copy_there_is_nothing_to_hold_against(story: Story) -> None:
    story.queue(10)
    story.timeline.commits = [(1.0, 4.0)]
    assert {*measure_primary(story.timeline)} == {"commit_latency_peak", "guard_brownout_or_worse"}
    assert describe_copies(story.timeline) == ""


def test_the_commits_of_a_line_are_kept_by_their_own_time(story: Story) -> None:
    line = {"t": BEGAN + 5, "rate": 4.0, "backlog": 0, "lag_seconds": 0.0}
    story.timeline.on_queue({**line, "commits": [[BEGAN + 4.1, 3.0], [BEGAN + 4.2, 9.0], [BEGAN + 4.3, 4.0]]})
    assert slowest_each_second(story.timeline) == [(4, 9.0)]
    assert "commits" not in story.timeline.queue[0]


def test_the_parts_are_a_table_with_what_each_means(story: Story) -> None:
    console = Console(width=132, color_system=None)
    with console.capture() as captured:
        print_courses(console, courses(tell(story, **RESTORED)))
    lines = captured.get().splitlines()
    (row,) = (line for line in lines if "from a snapshot" in line and "│" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "a new one, from a snapshot", "0.30", "0.80", "2.50", "1.50", "0.10", "5.20",
    ]  # fmt: skip
    assert all(any(line.startswith(f"  {name}: ") for line in lines) for name in PARTS)


def test_the_bars_have_the_length_of_their_parts(story: Story) -> None:
    axes = plt.figure().add_subplot()
    draw_parts(axes, courses(tell(story, **RESTORED)))
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a new one,\nfrom a snapshot", WARM]
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]  # type: ignore[attr-defined]
    assert ends == pytest.approx([0.3, 1.1, 3.6, 5.1, 5.2, 0.1, 0.1, 0.1, 0.1, 0.2])


def test_the_picture_shows_when_a_replica_was_made(story: Story, tmp_path: Path) -> None:
    timeline = tell(story, **RESTORED)
    axes = plt.figure().add_subplot()
    draw_primary(axes, timeline)
    legend = axes.get_legend()
    assert legend is not None
    assert "a replica is created" in [text.get_text() for text in legend.get_texts()]
    for line in timeline.reads:
        line["p99_ms"] = 1.0
    assert draw(timeline, tmp_path / "demo.png").stat().st_size > 10_000
