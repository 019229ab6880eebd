"""Each invariant of the checker: seen when it is broken for longer than its grace, and silent before and otherwise."""

from dataclasses import replace
from functools import partial

import pytest

from e2e.invariants.facts import NewRead, QueryCut, SessionFacts, SlotFacts
from e2e.invariants.suspicion import (
    ACTIVATION_GRACE,
    BLIND_GRACE,
    BUSY_WAL_GRACE,
    DISOWN_GRACE,
    IDLE_WAL_GRACE,
    MISSING_GRACE,
    ORPHAN_GRACE,
    Invariant,
)
from tests.unit.invariants.scene import SERVICE, Scene, claim, pod, slot

READ = partial(NewRead, SERVICE, "10.0.0.0")
CUT = QueryCut(SERVICE, "10.0.0.0", "57P01", "terminating connection due to administrator command", 1.0)
SLACK = 4.0
"""One probe and the proxies."""


@pytest.fixture
def scene() -> Scene:
    return Scene().run(40)


def test_a_shop_that_is_well_is_found_well(scene: Scene) -> None:
    assert scene.run(600).found() == []


@pytest.mark.parametrize(
    ("facts", "grace"),
    [
        ({"in_recovery": False, "is_streaming": False, "timeline": None}, DISOWN_GRACE),
        ({"system_id": "2"}, DISOWN_GRACE),
        ({"is_streaming": False}, 10 + SLACK),
        ({"timeline": 2}, 10 + SLACK),
        ({"staleness": 10.5}, SLACK),
    ],
    ids=["promoted", "foreign", "not-streaming", "another-timeline", "stale"],
)
def test_serving_is_fit(scene: Scene, facts: dict[str, object], grace: float) -> None:
    scene.members[0] = facts
    assert scene.run(grace - 0.5).found() == []
    assert scene.run(1.5).found() == [Invariant.SERVING_IS_FIT]


def test_what_heals_within_its_grace_was_nothing(scene: Scene) -> None:
    for _ in range(10):
        scene.members[0] = {"is_streaming": False}
        scene.run(10)
        scene.members[0] = {}
        scene.run(1)
    assert scene.found() == []


def test_a_member_past_the_fork_may_not_serve_even_if_it_is_said(scene: Scene) -> None:
    scene.server = {"timeline": 2, "forks": {1: 500}}
    scene.say("LagPanic", 0)
    scene.members = {0: {"position": 500, "is_streaming": False}, 1: {"timeline": 2}}
    assert scene.run(60).found() == []
    scene.members[0]["position"] = 501
    assert scene.run(DISOWN_GRACE + 1).found() == [Invariant.SERVING_IS_FIT]


@pytest.mark.parametrize("facts", [{"in_recovery": False}, {"system_id": "2"}], ids=str)
def test_to_say_it_does_not_help_a_server_that_is_no_replica(scene: Scene, facts: dict[str, object]) -> None:
    scene.say("LagPanic", 0)
    scene.members[0] = facts
    assert scene.run(60).found() == [Invariant.SERVING_IS_FIT]


def test_a_standby_may_be_whatever_it_is(scene: Scene) -> None:
    scene.members[1] = {"staleness": 900.0, "in_recovery": False, "system_id": "2"}
    assert scene.run(60).found() == []


def test_the_service_counts_and_not_the_label(scene: Scene) -> None:
    scene.listed.add("10.0.0.1")
    scene.members[1] = {"staleness": 900.0}
    assert scene.run(60).found() == [Invariant.SERVING_IS_FIT]


def test_enough_serve(scene: Scene) -> None:
    scene.listed.clear()
    assert scene.run(ACTIVATION_GRACE - 1).found() == []
    assert scene.run(2).found() == [Invariant.ENOUGH_SERVE]


@pytest.mark.parametrize(
    "facts",
    [{"staleness": 1.5}, {"staleness": None}, {"is_streaming": False}, {"timeline": 2}, {"system_id": "2"}],
    ids=str,
)
def test_nobody_need_serve_who_is_not_fit(scene: Scene, facts: dict[str, object]) -> None:
    scene.listed.clear()
    scene.members = {0: facts, 1: facts}
    assert scene.run(90).found() == []


@pytest.mark.parametrize(
    "changes",
    [{"min_serving": 0}, {"wanted": 0}, {"is_active": False}, {"is_deleting": True}, {"reasons": {"NameConflict"}}],
    ids=str,
)
def test_nobody_need_serve_whom_nobody_wants(scene: Scene, changes: dict[str, object]) -> None:
    scene.one = replace(scene.one, **{"reasons": frozenset(), **changes})
    scene.listed.clear()
    assert scene.run(90).found() == []


def test_one_pod_for_each_claim(scene: Scene) -> None:
    scene.pods.append(pod(7, "", set_name="", slot="", claims=("store-0-x",)))
    assert scene.run(1).found() == [Invariant.ONE_POD_EACH]


def test_one_pod_for_each_slot(scene: Scene) -> None:
    scene.set_pod(1, slot=slot(0))
    assert scene.run(1).found() == [Invariant.ONE_POD_EACH]


def test_one_claim_for_each_slot(scene: Scene) -> None:
    scene.claims[1] = claim(1, slot=slot(0))
    assert Invariant.ONE_POD_EACH in scene.run(1).found()


def test_a_pod_that_has_ended_and_foreign_claims_are_nobodys_rivals(scene: Scene) -> None:
    scene.pods.append(pod(7, "", set_name="", claims=("store-0-x",), is_ended=True))
    scene.pods += [pod(number, "", set_name="", slot="", claims=("files",)) for number in (8, 9)]
    assert scene.run(1).found() == []


def test_a_slot_belongs_to_a_member(scene: Scene) -> None:
    scene.slots.append(SlotFacts(slot(9), is_active=False))
    assert scene.run(ORPHAN_GRACE - 1).found() == []
    assert scene.run(2).found() == [Invariant.SLOTS_ARE_MEMBERS]
    assert "not in use" in scene.checker.violations[0].describe()


def test_a_slot_that_is_left_behind_is_seen_after_set_and_guard_are_gone(scene: Scene) -> None:
    scene.has_set, scene.pods, scene.claims, scene.members = False, [], [], {}
    scene.guard = replace(scene.guard, is_gone=True, is_ready=False)
    assert scene.run(ORPHAN_GRACE + 1).found() == [Invariant.SLOTS_ARE_MEMBERS]


def test_slots_of_others_are_theirs(scene: Scene) -> None:
    for name in ("patroni_2", "hr_standby1"):
        scene.slots.append(SlotFacts(name, is_active=False, kept_bytes=10**9))
    assert scene.run(300).found() == []


def test_a_claim_keeps_its_slot_while_its_pod_is_away(scene: Scene) -> None:
    scene.drop(0, ["pods"])
    assert Invariant.SLOTS_ARE_MEMBERS not in scene.run(300).found()


def test_a_member_has_its_slot(scene: Scene) -> None:
    scene.drop(1, ["slots"])
    assert scene.run(MISSING_GRACE - 1).found() == []
    assert scene.run(2).found() == [Invariant.SLOTS_ARE_MEMBERS]


def test_a_member_that_goes_needs_no_slot(scene: Scene) -> None:
    scene.drop(1, ["slots"])
    scene.claims[1] = claim(1, is_leaving=True)
    assert scene.run(300).found() == []


def test_a_guard_whose_login_its_user_broke_may_leave_slots(scene: Scene) -> None:
    scene.guard = replace(scene.guard, is_ready=False, reason="PasswordRejected")
    scene.slots = [SlotFacts(slot(9))]
    assert scene.run(300).found() == []


@pytest.mark.parametrize(("is_active", "grace"), [(False, IDLE_WAL_GRACE), (True, BUSY_WAL_GRACE)])
def test_kept_wal_is_within_the_cap(scene: Scene, is_active: bool, grace: float) -> None:
    scene.slots[1] = SlotFacts(slot(1), is_active, 1001)
    assert scene.run(grace - 1).found() == []
    assert scene.run(2).found() == [Invariant.WAL_WITHIN_CAP]


@pytest.mark.parametrize(("limit", "is_over"), [(2002, False), (1999, True), (None, False)])
def test_without_a_cap_it_is_half_of_the_primarys(scene: Scene, limit: int | None, is_over: bool) -> None:
    scene.one = replace(scene.one, wal_cap=None)
    scene.server = {"slot_wal_limit": limit}
    scene.slots[1] = SlotFacts(slot(1), is_active=False, kept_bytes=1001)
    assert bool(scene.run(90).found()) is is_over


def test_a_slot_that_is_lost_keeps_nothing(scene: Scene) -> None:
    scene.slots[1] = SlotFacts(slot(1), is_active=False, kept_bytes=None)
    assert scene.run(90).found() == []


def test_a_member_is_never_synchronous(scene: Scene) -> None:
    scene.server = {"synchronous": ("somebody", slot(0))}
    assert scene.run(1).found() == [Invariant.NEVER_SYNCHRONOUS]


def test_others_may_be_synchronous(scene: Scene) -> None:
    scene.server = {"synchronous": ("somebody", "hr_standby1")}
    assert scene.run(60).found() == []


def test_a_blind_checker_says_so(scene: Scene) -> None:
    scene.answers = False
    assert scene.run(BLIND_GRACE).found() == []
    assert scene.run(4).found() == [Invariant.CHECKER_SEES]


@pytest.mark.parametrize("changes", [{"is_ready": False}, {"is_ready": False, "is_gone": True}], ids=str)
def test_a_primary_that_nobody_reaches_is_no_blindness(scene: Scene, changes: dict[str, bool]) -> None:
    scene.guard = replace(scene.guard, **changes)
    scene.answers = False
    assert scene.run(90).found() == []


@pytest.mark.parametrize(("staleness", "is_over"), [(13.9, False), (14.1, True)])
def test_no_new_connection_meets_old_data(scene: Scene, staleness: float, is_over: bool) -> None:
    scene.events = {"reads": (READ(staleness),)}
    scene.run(1)
    assert scene.found() == ([Invariant.NO_STALE_CONNECTION] if is_over else [])


def test_a_new_connection_may_meet_what_is_said_to_be_old(scene: Scene) -> None:
    scene.say("LagPanic", 0)
    scene.members.pop(1)
    scene.events = {"reads": (READ(900.0),)}
    assert scene.run(1).found() == []


@pytest.mark.parametrize(("staleness", "is_over"), [(28.9, False), (29.1, True)])
def test_a_takeover_adds_fifteen_seconds(scene: Scene, staleness: float, is_over: bool) -> None:
    scene.leader = ""
    scene.run(12)
    scene.leader = "two"
    scene.run(4)
    scene.events = {"reads": (READ(staleness),)}
    scene.run(1)
    assert scene.found() == ([Invariant.NO_STALE_CONNECTION] if is_over else [])


def test_no_age_runs_while_the_primary_is_away(scene: Scene) -> None:
    scene.answers, scene.guard = False, replace(scene.guard, is_ready=False)
    scene.run(60)
    scene.answers = True
    scene.run(10)
    scene.events = {"reads": (READ(40.0),)}
    assert scene.run(1).found() == []
    scene.run(10)
    scene.events = {"reads": (READ(40.0),)}
    assert scene.run(1).found() == [Invariant.NO_STALE_CONNECTION]


def test_an_age_runs_on_through_a_short_silence_of_the_primary(scene: Scene) -> None:
    for _ in range(4):
        scene.run(20)
        scene.answers = False
        scene.run(1)
        scene.answers = True
    scene.events = {"reads": (READ(40.0),)}
    assert scene.run(1).found() == [Invariant.NO_STALE_CONNECTION]


def leave_stale(scene: Scene, age: float) -> None:
    """The serving member leaves at 30 s of lag; one session was there before or came later."""
    scene.listed = {"10.0.0.1"}
    left = scene.at
    scene.members[0] = {"staleness": 30.0, "sessions": ()}

    def grow() -> None:
        scene.members[0]["sessions"] = (SessionFacts(11, scene.at - left + age, "shop"),)

    scene.run(14, grow)
    assert scene.found() == []
    scene.run(3, grow)


def test_no_session_stays_on_a_member_that_left_as_stale(scene: Scene) -> None:
    leave_stale(scene, age=100.0)
    assert scene.found() == [Invariant.NO_SESSION_KEPT]


def test_a_session_that_came_later_by_another_way_may_stay(scene: Scene) -> None:
    leave_stale(scene, age=0.0)
    assert scene.found() == []


def test_a_reason_to_leave_counts_like_staleness(scene: Scene) -> None:
    scene.set_pod(0, role="draining", why="ReplayLagAboveLimit")
    scene.listed = {"10.0.0.1"}
    scene.members[0] = {"sessions": (SessionFacts(11, 900.0, "shop"),)}
    assert scene.run(17).found() == [Invariant.NO_SESSION_KEPT]


def test_scale_in_lets_sessions_be(scene: Scene) -> None:
    scene.set_pod(0, role="draining", why="ReplicasSet")
    scene.listed = {"10.0.0.1"}
    scene.members[0] = {"sessions": (SessionFacts(11, 900.0, "shop"),)}
    assert scene.run(50).found() == []


def drain(scene: Scene, seconds: float, **changes: object) -> None:
    scene.set_pod(0, **{"role": "draining", "why": "ReplicasSet", **changes})
    scene.listed = {"10.0.0.1"}
    scene.run(seconds)
    scene.events = {"cuts": (CUT,)}
    scene.run(1)


def test_a_scale_in_cuts_no_query(scene: Scene) -> None:
    drain(scene, 20)
    assert scene.found() == [Invariant.NO_QUERY_CUT]
    assert "57P01" in scene.checker.violations[0].describe()


def test_a_query_may_be_cut_after_the_timeout(scene: Scene) -> None:
    drain(scene, 61)
    assert scene.found() == []


@pytest.mark.parametrize("changes", [{"role": "serving", "why": ""}, {"why": "ReplayLagAboveLimit"}], ids=str)
def test_only_scale_in_answers_for_a_query(scene: Scene, changes: dict[str, str]) -> None:
    drain(scene, 3, **changes)
    assert scene.found() == []


def test_a_stale_member_may_lose_its_queries(scene: Scene) -> None:
    scene.members[0] = {"staleness": 30.0}
    scene.say("LagPanic", 0)
    drain(scene, 3)
    assert scene.found() == []
