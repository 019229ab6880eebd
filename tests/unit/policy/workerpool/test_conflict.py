"""Who else scales the target, and the memory that wants and moves leave."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from headroom.model.queue import QueueSample
from headroom.policy.workerpool.budget import ConnectionFacts, budget_of, high_quantile, workers_within
from headroom.policy.workerpool.conflict import AutoscalerClaim, PoolClaim, TargetId, find_conflict, watch_writes
from headroom.policy.workerpool.history import ForeignWrites, PoolHistory, Wants
from headroom.policy.workerpool.window import Observation

DEPLOYMENT = TargetId("apps", "Deployment", "mailer")
BORN = datetime(2026, 1, 1, tzinfo=UTC)
WALL = datetime(2026, 5, 4, 12, 54, 47, tzinfo=UTC)
OWN = PoolClaim("mail", "uid-b", BORN, DEPLOYMENT)


def test_an_autoscaler_on_the_target_is_a_conflict() -> None:
    found = find_conflict(OWN, [], [AutoscalerClaim("mailer-hpa", DEPLOYMENT)], ForeignWrites(), 0.0, wall=WALL)
    assert found is not None
    assert "HorizontalPodAutoscaler mailer-hpa scales deployment/mailer too" in found.message
    other = AutoscalerClaim("x", TargetId("apps", "StatefulSet", "mailer"))
    assert find_conflict(OWN, [], [other], ForeignWrites(), 0.0, wall=WALL) is None


def test_the_owner_of_an_autoscaler_is_named() -> None:
    claim = AutoscalerClaim("keda-hpa-mailer", DEPLOYMENT, made_by="the ScaledObject mailer")
    found = find_conflict(OWN, [], [claim], ForeignWrites(), 0.0, wall=WALL)
    assert found is not None
    assert found.message.startswith("the ScaledObject mailer scales")


def test_of_two_pools_the_older_goes_on() -> None:
    older = PoolClaim("first", "uid-z", BORN - timedelta(seconds=1), DEPLOYMENT)
    same_age = PoolClaim("twin", "uid-a", BORN, DEPLOYMENT)
    for rival in (older, same_age):
        assert find_conflict(OWN, [OWN, rival], [], ForeignWrites(), 0.0, wall=WALL) is not None
        assert find_conflict(rival, [OWN, rival], [], ForeignWrites(), 0.0, wall=WALL) is None


def test_two_foreign_writes_soon_after_ours_hold_for_ten_minutes() -> None:
    foreign = ForeignWrites(written=8, written_at=0.0)
    foreign = watch_writes(foreign, 3, 10.0)
    assert find_conflict(OWN, [], [], foreign, 10.0, wall=WALL) is None
    foreign = watch_writes(foreign, 3, 15.0)
    assert foreign.seen_at == (10.0,)
    foreign = watch_writes(ForeignWrites(8, 20.0, foreign.seen_at), 3, 25.0)
    for now, is_held in ((25.0, True), (624.0, True), (625.0, False)):
        assert (find_conflict(OWN, [], [], foreign, now, wall=WALL) is not None) == is_held


def test_the_end_of_a_hold_is_a_time_of_day_and_a_person_learns_what_to_do() -> None:
    foreign = ForeignWrites(written=8, hold_until=1000.0)
    for now in (400.0, 994.0):
        found = find_conflict(OWN, [], [], foreign, now, wall=WALL + timedelta(seconds=now - 400.0))
        assert found is not None
        assert "held until 13:04:47 UTC" in found.message
        assert "a change by hand counts too: set spec.mode to Paused to scale by hand" in found.message


def test_a_person_once_or_long_after_is_no_rival() -> None:
    foreign = watch_writes(ForeignWrites(written=8, written_at=0.0), 3, 10.0)
    later = watch_writes(ForeignWrites(8, 10.0, foreign.seen_at), 3, 700.0)
    assert find_conflict(OWN, [], [], later, 700.0, wall=WALL) is None
    assert later.written == 3
    once_each = watch_writes(ForeignWrites(8, 650.0, foreign.seen_at), 3, 660.0)
    assert once_each.hold_until is None


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), min_size=1, max_size=60))
def test_the_peak_of_the_wants_is_that_of_the_window(steps: list[tuple[float, int]]) -> None:
    wants, now, seen = Wants(), 0.0, []
    for pause, workers in steps:
        now += pause
        wants = wants.add(now, workers, 60.0)
        seen.append((now, workers))
        assert wants.peak() == max(count for at, count in seen if at >= now - 60.0)
    assert len(wants.peaks) <= len(steps)


def test_lateness_begins_with_the_first_late_sample_and_ends_with_the_first_other() -> None:
    history = PoolHistory()
    lags = [(0.0, 10.0), (5.0, 31.0), (6.0, 40.0), (7.0, 29.0), (12.0, 31.0)]
    late_for = []
    for at, lag in lags:
        history = history.seen(Observation(QueueSample(at, lag, 5), 1), 30.0)
        late_for.append(history.late_for_seconds(at))
    assert late_for == [0.0, 0.0, 1.0, 0.0, 0.0]


def test_a_hole_begins_a_new_row_of_wants() -> None:
    wants = Wants().add(0.0, 9, 300.0).add(59.0, 5, 300.0)
    assert wants.covers(300.0, 300.0)
    broken = wants.add(120.0, 5, 300.0)
    assert not broken.covers(300.0, 300.0)
    assert broken.peak() == 5


def test_the_budget_is_a_share_and_leaves_room_for_all_others() -> None:
    assert budget_of(ConnectionFacts(limit=97, others=10, other_pools=0, share_percent=60, reserve=5)) == 55
    assert budget_of(ConnectionFacts(limit=97, others=80, other_pools=0, share_percent=60, reserve=5)) == 12
    assert budget_of(ConnectionFacts(limit=97, others=200, other_pools=0)) == 0
    assert budget_of(ConnectionFacts(limit=97, others=10, other_pools=0, pooler_size=40)) == 40


@given(st.integers(0, 200), st.integers(1, 5), st.integers(0, 500), st.integers(0, 500))
def test_workers_within_the_budget_fit_it_unless_others_hold_too_much(
    present: int, each: int, other: int, pooler: int
) -> None:
    facts = ConnectionFacts(limit=0, others=0, other_pools=other, pooler_size=pooler)
    cap = workers_within(facts, present, each)
    total = present * each + other
    if total <= pooler:
        assert present <= cap
        assert cap * each + other <= pooler
    else:
        assert cap <= present
        assert (cap + 1) * total > present * pooler


def test_two_pools_that_look_at_once_settle_within_the_budget() -> None:
    first, second = 30, 30
    for _ in range(5):
        seen = ConnectionFacts(limit=0, others=0, other_pools=second, pooler_size=50)
        mine = min(30, workers_within(seen, first, 1))
        theirs = min(30, workers_within(ConnectionFacts(0, 0, first, pooler_size=50), second, 1))
        first, second = mine, theirs
    assert (first, second) == (25, 25)


def test_high_quantile_is_the_nearest_rank() -> None:
    assert high_quantile([]) == 0
    assert high_quantile(range(1, 101)) == 95
    assert high_quantile([7]) == 7
