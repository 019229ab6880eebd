"""When a suspicion counts: only while somebody leads and the primary answers, and once for each subject."""

from dataclasses import replace

import pytest

from e2e.invariants.checker import KEPT_EVIDENCE, MOST_VIOLATIONS, describe
from e2e.invariants.facts import FRESH_SECONDS, SlotFacts
from e2e.invariants.patrol import Watch, parse_allowed
from e2e.invariants.suspicion import DISOWN_GRACE, ORPHAN_GRACE, Invariant
from e2e.invariants.tracks import TAKEOVER_SECONDS
from tests.unit.invariants.scene import Scene, slot


@pytest.fixture
def scene() -> Scene:
    return Scene().run(40)


def test_nothing_is_held_against_an_absent_operator(scene: Scene) -> None:
    scene.leader = ""
    scene.members[0] = {"in_recovery": False}
    assert scene.run(600).found() == []


@pytest.mark.parametrize("away", [2.0, 12.0])
def test_a_new_leader_gets_the_time_of_a_takeover_and_the_grace(scene: Scene, away: float) -> None:
    scene.leader = ""
    scene.members[0] = {"in_recovery": False}
    scene.run(away)
    scene.leader = "two"
    left = TAKEOVER_SECONDS - away
    assert scene.run(left + DISOWN_GRACE - 1).found() == []
    assert scene.run(2).found() == [Invariant.SERVING_IS_FIT]


def test_a_leader_that_hands_over_is_a_takeover_too(scene: Scene) -> None:
    scene.leader = "two"
    scene.members[0] = {"in_recovery": False}
    assert scene.run(TAKEOVER_SECONDS + DISOWN_GRACE - 1).found() == []
    assert scene.run(3).found() == [Invariant.SERVING_IS_FIT]


def test_a_grace_begins_anew_when_the_primary_comes_back(scene: Scene) -> None:
    scene.slots.append(SlotFacts(slot(9)))
    scene.run(ORPHAN_GRACE - 5)
    scene.answers = False
    scene.run(20)
    scene.answers = True
    assert scene.run(ORPHAN_GRACE - 1).found() == []
    assert scene.run(2).found() == [Invariant.SLOTS_ARE_MEMBERS]


@pytest.mark.parametrize("blip", ["primary", "member"])
def test_a_grace_is_paused_by_a_short_silence_and_not_shortened(scene: Scene, blip: str) -> None:
    """The silence itself does not count, nor does the time to the next observation."""
    scene.members[0] = known = {"in_recovery": False}
    seen = 0.0
    for _ in range(3):
        scene.run(1.5)
        seen += 1.0
        assert scene.found() == []
        if blip == "primary":
            scene.answers = False
        else:
            scene.members.pop(0)
        scene.run(2.0)
        scene.answers, scene.members[0] = True, known
    scene.run(DISOWN_GRACE - seen)
    assert scene.found() == []
    assert scene.run(1.5).found() == [Invariant.SERVING_IS_FIT]


def test_one_that_leaves_in_a_short_silence_is_not_held_to_what_was(scene: Scene) -> None:
    scene.members[0] = {"in_recovery": False}
    scene.run(DISOWN_GRACE - 1)
    scene.answers = False
    scene.run(2)
    scene.answers, scene.listed = True, {"10.0.0.1"}
    assert scene.run(60).found() == []


def test_what_was_seen_long_ago_is_unknown(scene: Scene) -> None:
    scene.members[0] = {"in_recovery": False}
    scene.guard = replace(scene.guard, is_ready=False)
    now = scene.observe()
    for _ in range(100):
        now = replace(now, at=now.at + 1)
        scene.checker.observe(now)
    assert scene.found() == []
    assert not now.is_fresh(now.at - FRESH_SECONDS - 0.1)


def test_a_primary_that_was_not_heard_accuses_nobody(scene: Scene) -> None:
    scene.members[0] = {"system_id": "2"}
    scene.guard = replace(scene.guard, is_ready=False)
    heard = scene.observe().servers
    for _ in range(100):
        scene.at += 0.5
        scene.checker.observe(replace(scene.observe(), servers=heard))
    assert scene.found() == []


def test_a_violation_is_one_with_its_first_evidence(scene: Scene) -> None:
    scene.members[0] = {"in_recovery": False}
    scene.run(60)
    [violation] = scene.checker.violations
    assert violation.times > 50
    assert violation.began == 1040.5
    assert len(violation.evidence) == KEPT_EVIDENCE
    text = describe(scene.checker.violations)
    assert "serving-is-fit: shop/store-0-x, from 00:17:20.50" in text
    assert "not in recovery" in text


def test_the_count_of_violations_is_bounded(scene: Scene) -> None:
    scene.slots += [SlotFacts(slot(number)) for number in range(100, 300)]
    scene.run(ORPHAN_GRACE + 2)
    assert len(scene.checker.violations) == MOST_VIOLATIONS


def test_what_looks_wrong_is_pending_until_it_is_found(scene: Scene) -> None:
    scene.slots.append(SlotFacts(slot(9)))
    assert scene.run(5).checker.pending == {Invariant.SLOTS_ARE_MEMBERS}
    assert scene.run(ORPHAN_GRACE).checker.pending == frozenset()


def test_a_watch_fails_for_what_its_test_does_not_break_on_purpose(scene: Scene) -> None:
    scene.server = {"synchronous": (slot(0),)}
    watches = Watch(), Watch({Invariant.NEVER_SYNCHRONOUS: "a test"})
    for watch in watches:
        watch.observe(scene.observe())
    strict, allowing = watches
    assert "never-synchronous" in strict.report()
    assert allowing.report() == ""
    assert [one.invariant for one in allowing.violations()] == [Invariant.NEVER_SYNCHRONOUS]


def test_a_measurement_counts_what_is_violated(scene: Scene) -> None:
    watch = Watch()
    assert watch.figures()["invariants_violated_count"].met
    scene.server = {"synchronous": (slot(0), slot(1))}
    watch.observe(scene.observe())
    figure = watch.figures("bench")["bench"]
    assert (figure.value, figure.unit, figure.met) == (2, "violations", False)


def test_a_checker_that_fails_itself_fails_the_test() -> None:
    watch = Watch(troubles=["the checker itself failed: KeyError('mode')"])
    assert "KeyError" in watch.report()


def test_what_is_allowed_has_a_known_name_and_a_reason() -> None:
    assert parse_allowed([(("never-synchronous",), "it is the case")]) == {
        Invariant.NEVER_SYNCHRONOUS: "it is the case"
    }
    for marks in ((("never-synchronous",), ""), ((), "no name"), (("no-such-invariant",), "unknown")):
        with pytest.raises(ValueError, match=r"no-such-invariant|name the invariant"):
            parse_allowed([marks])
