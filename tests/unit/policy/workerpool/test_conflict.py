"""Who else scales the target: an autoscaler, an older pool, somebody who writes again and again."""

from datetime import UTC, datetime, timedelta

from headroom.model.moments import Moment
from headroom.policy.target_conflict import AutoscalerClaim, TargetId
from headroom.policy.workerpool import ForeignWrites, PoolClaim
from headroom.policy.workerpool.conflict import find_conflict, watch_writes
from tests.unit.policy.workerpool.make import DEPLOYMENT

BORN = datetime(2026, 1, 1, tzinfo=UTC)
WALL = datetime(2026, 5, 4, 12, 54, 47, tzinfo=UTC)
OWN = PoolClaim("mail", "uid-b", BORN, DEPLOYMENT)
START = Moment(0.0, WALL)


def moment(at: float) -> Moment:
    return Moment(at, WALL + timedelta(seconds=at))


def test_an_autoscaler_on_the_target_is_a_conflict() -> None:
    found = find_conflict(OWN, [], [AutoscalerClaim("mailer-hpa", DEPLOYMENT)], ForeignWrites(), START)
    assert found is not None
    assert "HorizontalPodAutoscaler mailer-hpa scales deployment/mailer too" in found.message
    other = AutoscalerClaim("x", TargetId("apps", "StatefulSet", "mailer"))
    assert find_conflict(OWN, [], [other], ForeignWrites(), START) is None


def test_the_owner_of_an_autoscaler_is_named() -> None:
    claim = AutoscalerClaim("keda-hpa-mailer", DEPLOYMENT, made_by="the ScaledObject mailer")
    found = find_conflict(OWN, [], [claim], ForeignWrites(), START)
    assert found is not None
    assert found.message.startswith("the ScaledObject mailer scales")


def test_of_two_pools_the_older_goes_on() -> None:
    older = PoolClaim("first", "uid-z", BORN - timedelta(seconds=1), DEPLOYMENT)
    same_age = PoolClaim("twin", "uid-a", BORN, DEPLOYMENT)
    for rival in (older, same_age):
        assert find_conflict(OWN, [OWN, rival], [], ForeignWrites(), START) is not None
        assert find_conflict(rival, [OWN, rival], [], ForeignWrites(), START) is None


def test_two_foreign_writes_soon_after_ours_hold_for_ten_minutes() -> None:
    foreign = ForeignWrites(written=8, written_at=0.0)
    foreign = watch_writes(foreign, 3, 10.0)
    assert find_conflict(OWN, [], [], foreign, moment(10.0)) is None
    foreign = watch_writes(foreign, 3, 15.0)
    assert foreign.seen_at == (10.0,)
    foreign = watch_writes(ForeignWrites(8, 20.0, foreign.seen_at), 3, 25.0)
    for now, is_held in ((25.0, True), (624.0, True), (625.0, False)):
        assert (find_conflict(OWN, [], [], foreign, moment(now)) is not None) == is_held


def test_the_end_of_a_hold_is_a_time_of_day_and_a_person_learns_what_to_do() -> None:
    foreign = ForeignWrites(written=8, hold_until=1000.0)
    for now in (400.0, 994.0):
        found = find_conflict(OWN, [], [], foreign, Moment(now, WALL + timedelta(seconds=now - 400.0)))
        assert found is not None
        assert "held until 13:04:47 UTC" in found.message
        assert "a change by hand counts too: set spec.mode to Paused to scale by hand" in found.message


def test_a_person_once_or_long_after_is_no_rival() -> None:
    foreign = watch_writes(ForeignWrites(written=8, written_at=0.0), 3, 10.0)
    later = watch_writes(ForeignWrites(8, 10.0, foreign.seen_at), 3, 700.0)
    assert find_conflict(OWN, [], [], later, moment(700.0)) is None
    assert later.written == 3
    once_each = watch_writes(ForeignWrites(8, 650.0, foreign.seen_at), 3, 660.0)
    assert once_each.hold_until is None
