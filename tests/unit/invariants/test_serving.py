"""Old data in the Service: what excuses it, whom, and for how long. A right operator is accused of nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from e2e.invariants.excuses import Excuse, find_excuse
from e2e.invariants.facts import NewRead, SlotFacts
from e2e.invariants.serving import SLACK
from e2e.invariants.suspicion import (
    ACTIVATION_GRACE,
    BLIND_GRACE,
    KEPT_GRACE,
    RELEARN_SECONDS,
    UNSEEN_GRACE,
    WORDS_SECONDS,
    Invariant,
)
from e2e.invariants.tracks import EXCUSED_SECONDS, LONGEST_REST, TAKEOVER_SECONDS
from tests.unit.invariants.scene import SERVICE, Scene, claim, pod, slot

BOUND = 10.0


@pytest.fixture
def scene() -> Scene:
    """One serves, one stands by."""
    return Scene().run(40)


@pytest.fixture
def lone(scene: Scene) -> Scene:
    """Nobody could take the place of the one that serves."""
    scene.members[1] = {"staleness": 900.0}
    return scene


def join(scene: Scene, number: int, role: str = "serving", **facts: object) -> None:
    """One more member."""
    scene.pods.append(pod(number, role))
    scene.claims.append(claim(number))
    scene.slots.append(SlotFacts(slot(number)))
    scene.members[number] = facts
    if role == "serving":
        scene.listed.add(f"10.0.0.{number}")


def read(scene: Scene, staleness: float) -> None:
    scene.events["reads"] = (NewRead(SERVICE, "10.0.0.0", staleness),)


def grow(scene: Scene, number: int = 0) -> Callable[[], None]:
    """A member stands still from now on, and clients meet it."""
    began = scene.at

    def each() -> None:
        scene.members[number] = {"staleness": scene.at - began}
        if f"10.0.0.{number}" in scene.listed:
            read(scene, scene.at - began)

    return each


# What an operator could do wrong.


@pytest.mark.parametrize("reason", ["LagPanic", "ReadsUnbounded", "ReplayLagAboveLimit"])
def test_to_say_it_does_not_help_while_a_standby_could_take_the_place(scene: Scene, reason: str) -> None:
    scene.members[0] = {"staleness": 600.0}
    scene.say(reason, 0)
    assert scene.run(min(KEPT_GRACE, BOUND + ACTIVATION_GRACE + SLACK) - 1).found() == []
    assert scene.run(20).found() == [Invariant.SERVING_IS_FIT]
    if reason == "LagPanic":
        assert "fit to take its place: store-1-x" in scene.checker.violations[0].describe()


@pytest.mark.parametrize("reason", ["LagPanic", "ReplayLagUnknown", ""])
def test_a_primary_that_blinks_hides_nobody_who_is_kept(scene: Scene, reason: str) -> None:
    passes = [0]

    def blink() -> None:
        passes[0] += 1
        scene.answers = passes[0] % 60 != 0

    scene.members[0] = {"staleness": 600.0}
    scene.say(reason, 0)
    assert scene.run(90, blink).found() == [Invariant.SERVING_IS_FIT]


def test_one_that_is_said_hides_no_other(lone: Scene) -> None:
    join(lone, 2, staleness=900.0, is_streaming=False)
    lone.members[0] = {"staleness": 20.0}
    lone.say("LagPanic", 0)
    assert lone.run(WORDS_SECONDS + SLACK - 1).found() == []
    assert lone.run(2).found() == [Invariant.SERVING_IS_FIT]
    [violation] = lone.checker.violations
    assert violation.subject == "shop/store-2-x"
    assert "LagPanic is said of others only: store-0-x serves data" in violation.describe()


@pytest.mark.parametrize("each", [2, 8])
def test_what_is_said_now_and_then_is_not_said(lone: Scene, each: int) -> None:
    passes = [0]

    def flip() -> None:
        passes[0] += 1
        lone.say("LagPanic" if passes[0] % each == 0 else "", 0)

    lone.members[0] = {"staleness": 300.0}
    assert lone.run(25, flip).found() == []
    assert lone.run(40, flip).found() == [Invariant.SERVING_IS_FIT]
    assert "of the last 60 s" in lone.checker.violations[0].describe()


def test_what_is_nearly_always_said_is_said(lone: Scene) -> None:
    passes = [0]

    def flip() -> None:
        passes[0] += 1
        lone.say("" if passes[0] % 4 == 0 else "LagPanic", 0)

    lone.members[0] = {"staleness": 300.0}
    assert lone.run(600, flip).found() == []


@pytest.mark.parametrize(("measured", "grace"), [({"store-0-x"}, BLIND_GRACE), (set(), UNSEEN_GRACE)])
def test_who_serves_is_seen(scene: Scene, measured: set[str], grace: float) -> None:
    scene.one = replace(scene.one, measured=frozenset(measured))
    scene.members.pop(0)
    assert scene.run(grace - 1).found() == []
    assert scene.run(2).found() == [Invariant.CHECKER_SEES]
    assert "10.0.0.0" in scene.checker.violations[0].describe()


@pytest.mark.parametrize("reason", ["ReplayLagAboveLimit", "ReplayLagUnknown"])
def test_a_reason_that_passes_excuses_for_a_while(lone: Scene, reason: str) -> None:
    lone.members[0] = {"staleness": 300.0}
    lone.say(reason, 0)
    assert lone.run(BOUND + ACTIVATION_GRACE + SLACK - 1).found() == []
    assert lone.run(2).found() == [Invariant.SERVING_IS_FIT]


@pytest.mark.parametrize(
    ("reason", "number", "allowed"),
    [
        ("", 0, BOUND + SLACK),
        ("LagPanic", 1, BOUND + SLACK + WORDS_SECONDS),
        ("ReplayLagAboveLimit", 0, 2 * BOUND + SLACK + ACTIVATION_GRACE),
        ("LagPanic", 0, float("inf")),
    ],
)
def test_new_connections_count_by_what_is_said(lone: Scene, reason: str, number: int, allowed: float) -> None:
    lone.run(20)
    lone.say(reason, number)
    read(lone, min(allowed, 1000.0) - 0.1)
    assert lone.run(1).found() == []
    read(lone, allowed + 0.1)
    assert lone.run(1).found() == ([Invariant.NO_STALE_CONNECTION] if allowed < 1000 else [])


def test_the_reason_of_another_condition_excuses_nobody(lone: Scene) -> None:
    lone.members[0] = {"staleness": 300.0}
    lone.one = replace(lone.one, reasons=frozenset({"LagPanic"}))
    assert lone.run(6).found() == [Invariant.SERVING_IS_FIT]


@pytest.mark.parametrize(
    ("message", "is_named"),
    [
        ("store-0-x serves data 12 s old; kept in the Service", True),
        ("store-0-xy serves data 12 s old, store-1-x: no stream", False),
        ("store-1-x serves data 12 s old, 2 more; kept in the Service", True),
    ],
)
def test_a_name_is_a_whole_word_and_the_rest_is_counted(scene: Scene, message: str, is_named: bool) -> None:
    scene.say("LagPanic", message=message)
    now = scene.observe()
    assert find_excuse(now, scene.one, scene.pods[0]) is (Excuse.LASTING if is_named else Excuse.OTHERS)
    assert find_excuse(now, scene.one, None) is Excuse.OTHERS, "a server that is no member"


# What a right operator does.


@pytest.mark.parametrize(
    "facts", [{"staleness": 900.0}, {"is_streaming": False, "staleness": 900.0}, {"timeline": 2}], ids=str
)
@pytest.mark.parametrize("reason", ["LagPanic", "ReadsUnbounded"])
def test_who_is_named_may_be_old_while_nobody_else_can_serve(
    lone: Scene, facts: dict[str, object], reason: str
) -> None:
    lone.members[0] = facts
    lone.say(reason, 0)
    assert lone.run(600).found() == []


def test_an_outage_of_the_primary_excuses_all(scene: Scene) -> None:
    """The checker may reach a primary that the operator does not, or not yet again."""
    scene.say("ReadsUnbounded", message="no replay lag can be measured: the primary does not answer")
    scene.guard = replace(scene.guard, is_ready=False, reason="PrimaryUnreachable")
    scene.members = {0: {"staleness": 300.0}, 1: {}}
    assert scene.run(300, lambda: read(scene, 300.0)).found() == []
    scene.guard = replace(scene.guard, is_ready=True, reason="Connected")
    assert scene.run(ACTIVATION_GRACE).found() == []
    scene.say("")
    scene.members[0] = {}
    assert scene.run(60).found() == []


def test_an_outage_that_the_guard_knows_nothing_of_excuses_for_a_while(lone: Scene) -> None:
    lone.say("ReadsUnbounded", message="no replay lag can be measured")
    lone.members[0] = {"staleness": 300.0}
    assert lone.run(BOUND + ACTIVATION_GRACE + SLACK + 1).found() == [Invariant.SERVING_IS_FIT]


@pytest.mark.parametrize(
    "changes", [{"is_active": False}, {"reasons": frozenset({"NameConflict"})}], ids=["paused-or-dry-run", "refused"]
)
@pytest.mark.parametrize("reason", ["LagPanic", "ReplayLagAboveLimit"])
def test_who_may_activate_nobody_keeps_what_it_names(scene: Scene, changes: dict[str, object], reason: str) -> None:
    scene.one = replace(scene.one, **changes)
    scene.members[0] = {"staleness": 300.0}
    scene.say(reason, 0)
    assert scene.run(600).found() == []


def test_other_libraries_keep_a_standby_out_and_hide_the_panic(scene: Scene) -> None:
    scene.one = replace(scene.one, mismatched=frozenset({"store-0-x", "store-1-x"}))
    scene.members[0] = {"staleness": 300.0}
    scene.say("ReplayLagAboveLimit", 0)
    assert scene.run(600).found() == []
    scene.one = replace(scene.one, mismatched=frozenset({"store-0-x"}))
    assert scene.run(KEPT_GRACE + 1).found() == [Invariant.SERVING_IS_FIT]


@pytest.mark.parametrize(
    "facts", [{"staleness": 1.5}, {"staleness": None}, {"is_streaming": False}, {"timeline": 2}], ids=str
)
def test_who_is_not_fit_takes_no_place(scene: Scene, facts: dict[str, object]) -> None:
    scene.members = {0: {"staleness": 300.0}, 1: facts}
    scene.say("LagPanic", 0)
    assert scene.run(600).found() == []


def test_a_standby_that_did_not_come_into_the_service_rests(scene: Scene) -> None:
    scene.members[0] = {"staleness": 300.0}
    scene.say("LagPanic", 0)
    scene.set_pod(1, role="serving")
    scene.run(5)
    scene.set_pod(1, role="standby")
    assert scene.run(LONGEST_REST - 1).found() == []
    assert scene.run(KEPT_GRACE + 2).found() == [Invariant.SERVING_IS_FIT]


def test_one_that_stands_still_is_swapped(scene: Scene) -> None:
    """Two readings, the standby is put into the Service and confirmed; the other leaves, and nothing is said of it."""
    each = grow(scene)
    scene.run(BOUND + 2, each)
    scene.say("ReplayLagAboveLimit", 0)
    scene.set_pod(1, role="serving")
    scene.run(3, each)
    scene.listed.add("10.0.0.1")
    scene.run(2, each)
    scene.set_pod(0, role="draining", why="ReplayLagAboveLimit")
    scene.say("")
    scene.run(2, each)
    scene.listed.discard("10.0.0.0")
    assert scene.run(60, each).found() == []


def test_after_a_long_panic_the_proxies_may_need_a_moment(lone: Scene) -> None:
    each = grow(lone)
    lone.run(BOUND + 2, each)
    lone.say("LagPanic", 0)
    lone.run(300, each)
    lone.members[1] = {}
    lone.set_pod(1, role="serving")
    lone.listed.add("10.0.0.1")
    lone.run(2, each)
    lone.set_pod(0, role="draining", why="ReplayLagAboveLimit")
    lone.say("")
    lone.run(EXCUSED_SECONDS - 1, each)
    lone.listed.discard("10.0.0.0")
    assert lone.run(60, each).found() == []


def test_a_second_one_is_named_when_the_words_are_written(lone: Scene) -> None:
    join(lone, 2)
    lone.members[0] = {"staleness": 300.0}
    lone.say("LagPanic", 0)
    each = grow(lone, 2)
    lone.run(BOUND + 11, each)
    lone.say("LagPanic", 0, 2)
    assert lone.run(300, each).found() == []


def test_a_new_leader_says_that_a_lag_is_unknown_and_measures_it(lone: Scene) -> None:
    """It became stale while nobody led."""
    lone.leader = ""
    each = grow(lone)
    lone.run(TAKEOVER_SECONDS - 2, each)
    lone.leader = "two"
    lone.run(RELEARN_SECONDS + 2, each)
    lone.say("ReplayLagUnknown", 0)
    lone.run(BOUND, each)
    lone.say("LagPanic", 0)
    assert lone.run(300, each).found() == []


@pytest.mark.parametrize("away", [13.0, 200.0])
def test_nothing_counts_against_a_leader_from_before_it_came(lone: Scene, away: float) -> None:
    lone.leader = ""
    each = grow(lone)
    lone.run(away, each)
    lone.leader = "two"
    assert lone.run(RELEARN_SECONDS + SLACK - 1, each).found() == []
    assert lone.run(8, each).found() != []


def test_what_was_said_before_a_takeover_stays_said(lone: Scene) -> None:
    each = grow(lone)
    lone.run(BOUND + 2, each)
    lone.say("LagPanic", 0)
    lone.leader = ""
    lone.run(12, each)
    lone.leader = "two"
    assert lone.run(300, each).found() == []


def test_a_node_that_is_lost_takes_its_member_out_in_time(lone: Scene) -> None:
    """The last one stays in the Service until Kubernetes knows; the operator measures it until its answers end."""
    lone.one = replace(lone.one, measured=frozenset({"store-0-x"}))
    lone.members.pop(0)
    lone.run(20)
    lone.one = replace(lone.one, measured=frozenset())
    lone.run(60)
    lone.set_pod(0, is_ready=False)
    lone.listed.clear()
    assert lone.run(300).found() == []


def test_members_that_follow_a_failover_late_are_said(lone: Scene) -> None:
    lone.answers = False
    lone.guard = replace(lone.guard, is_ready=False)
    lone.say("ReadsUnbounded", message="no replay lag can be measured: the primary does not answer")
    lone.run(30)
    lone.answers, lone.server = True, {"timeline": 2, "forks": {1: 500}}
    lone.guard = replace(lone.guard, is_ready=True)
    lone.say("")
    lone.members[0] = {"position": 500, "is_streaming": False}
    lone.run(BOUND + 3)
    lone.say("ReadsUnbounded", 0)
    lone.run(30)
    lone.members[0] = {"timeline": 2}
    lone.say("")
    assert lone.run(60).found() == []
