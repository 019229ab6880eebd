"""Plans while the primary is silent: who may take the place of a dead member."""

import pytest

from headroom.model.replica import Role
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.replay_lag import NotEligible
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BETWEEN,
    NOW,
    UNKNOWN,
    WITHIN,
    judge,
    make_member,
    make_pod,
    make_probe,
    make_targets,
)


def blind_standby(**changes: object) -> Member:
    """A standby within the bounds when the primary was last heard, ten seconds ago."""
    kept = {"lag": UNKNOWN, "within": 0, "judged": WITHIN, "judged_seconds": 10.0}
    return make_member(Role.STANDBY, 1, **{**kept, **changes})


def dead() -> Member:
    pod = make_pod(Role.SERVING, name="store-0-a", uid="u0", is_ready=False)
    return make_member(Role.SERVING, 0, pod=pod, lag=None, unanswered=9)


def blind(*found: Member, **changes: object) -> Plan:
    targets = {"has_primary": False, "may_reserve": False, "outage_seconds": 10.0, **changes}
    return decide_plan(judge(*found, has_primary=False), make_targets(**targets), NOW)


def test_without_a_primary_a_known_standby_replaces_a_dead_member() -> None:
    plan = blind(dead(), blind_standby())
    assert (plan.needed, plan.activate) == (1, ("store-1-a",))
    assert blind(blind_standby()).needed == 1, "the pod of the dead one may be gone"
    silent = make_member(Role.SERVING, 0, lag=None, unanswered=3)
    assert blind(silent, blind_standby()).needed == 1
    assert blind(dead(), blind_standby(), is_acting=False).needed == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"judged": BETWEEN},
        {"judged": None},
        {"judged": NotEligible(Reason.NOT_STREAMING, "")},
        {"judged_seconds": 15.1},
        {"unanswered": 1},
        {"probe": make_probe(is_in_recovery=False)},
        {"is_resting": True},
    ],
    ids=["lagged", "never known", "had no stream", "not heard to the end", "silent", "promoted", "resting"],
)
def test_without_a_primary_no_other_standby_replaces_a_dead_member(changes: dict[str, object]) -> None:
    assert blind(dead(), blind_standby(**changes)).activate == ()


def test_without_a_primary_places_of_dead_members_are_filled_and_no_others() -> None:
    living = make_member(Role.SERVING, 0, lag=UNKNOWN, within=0)
    assert blind(living, blind_standby(), desired=2).needed == 0
    assert blind(living, blind_standby(), outage_seconds=None).activate == ()
    other = make_member(Role.SERVING, 2, lag=UNKNOWN, within=0)
    assert blind(dead(), other, blind_standby(), desired=2).needed == 1


def test_in_a_short_outage_nobody_replaces_anybody() -> None:
    assert blind(dead(), blind_standby(), outage_seconds=None).activate == ()
