"""Of whom a snapshot is taken, and what becomes of that member."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.model.conditions import Finding
from headroom.model.database import Lsn
from headroom.model.replica import Role, format_incarnation
from headroom.policy.replicaset.memory import SetMemory
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BEYOND,
    NOW,
    SYSTEM,
    make_claim,
    make_member,
    make_probe,
    make_slot,
)
from tests.unit.policy.replicaset.snapshot_play import (
    FLUSH,
    INCARNATION,
    MIB,
    SPARE,
    WHOLE,
    Play,
    anchor,
    snapshot,
    source,
    stamps,
    standby,
)


def test_first_the_anchor_then_the_source() -> None:
    assert Play(*SPARE).steps.reserves
    steps = Play(*SPARE, anchors=(anchor(INCARNATION),)).steps
    assert not steps.reserves
    assert steps.drop == ()
    assert steps.choose is not None
    assert (steps.choose.member, steps.choose.snapshot) == ("store-2-a", f"store-s-{INCARNATION}")
    known = steps.choose.stamps
    assert (known.from_lsn, known.to_lsn, known.anchor) == (FLUSH, None, anchor(INCARNATION).name)
    assert (known.system_identifier, known.timeline, known.major) == (SYSTEM, 1, 17)


@pytest.mark.parametrize(("kept", "fits"), [(256, True), (257, False), (600, False)])
def test_an_anchor_that_keeps_too_much_from_the_beginning_ends_the_attempt(kept: int, fits: bool) -> None:
    """It begins where the primary's last checkpoint did, and the cap is 512 MiB."""
    wide = anchor(INCARNATION, lsn=FLUSH - kept * MIB)
    for wanted in ({}, {"consistency": "Atomic"}):
        steps = Play(*SPARE, anchors=(wide,), wanted=wanted).steps
        assert bool(steps.choose or steps.create) is fits
        assert (steps.failure is None) is fits
        assert not steps.reserves
        if not fits:
            assert {entry.name for entry in steps.drop} == {wide.name}
            assert steps.failure is not None
            assert "raise provisioning.maxSlotWAL" in steps.failure.message


@pytest.mark.parametrize(
    "changes",
    [
        {"probe": make_probe(receive_lsn=Lsn(FLUSH - 2 * MIB), timeline=1)},
        {"probe": make_probe(receive_lsn=None, timeline=1)},
    ],
)
def test_a_source_that_has_not_received_what_the_anchor_keeps_is_waited_for(changes: dict[str, Any]) -> None:
    steps = Play(*WHOLE, standby(2, **changes), anchors=(anchor(INCARNATION),)).steps
    assert (steps.choose, steps.drop) == (None, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"probe": make_probe(receive_lsn=FLUSH, timeline=2)},
        {"probe": make_probe(receive_lsn=FLUSH, timeline=1, is_streaming=False)},
        {"unanswered": 1},
        {"lag": None},
        {"slot": None},
        {"claim": make_claim(name="store-1-a", is_bound=False)},
    ],
)
def test_only_a_standby_that_streams_is_a_source(changes: dict[str, Any]) -> None:
    members = [replace(standby(ordinal), **changes) for ordinal in (1, 2)]
    assert Play(make_member(Role.SERVING, 0), *members, anchors=(anchor(INCARNATION),)).steps.choose is None


def test_never_one_that_serves_and_never_one_that_is_asked_for() -> None:
    steps = Play(*WHOLE, anchors=(anchor(INCARNATION),)).steps
    assert (steps.choose, steps.reserves) == (None, False)
    alone = Play(make_member(Role.SERVING, 0), standby(1), anchors=(anchor(INCARNATION),), standbys=0).steps
    assert alone.choose is not None
    assert alone.choose.member == "store-1-a"


def test_none_is_stopped_while_another_is_recreated() -> None:
    old = standby(1)
    assert old.pod is not None
    members = (make_member(Role.SERVING, 0), replace(old, pod=replace(old.pod, template="old")), standby(2))
    plan, steps = Play(*members, anchors=(anchor(INCARNATION),)).plans()
    assert (plan.recreate, steps.choose) == (("store-1-a",), None)


def test_a_stopped_source_is_neither_a_standby_nor_missing() -> None:
    play = Play(*WHOLE, source(), anchors=(anchor(INCARNATION),))
    plan, steps = play.plans()
    assert plan.is_empty
    assert steps.release == ()
    assert play.members[2].verdict.reason is Reason.SNAPSHOT_SOURCE


def test_its_pod_goes_first_then_the_object_comes_with_the_end_of_its_wal() -> None:
    anchors = (anchor(INCARNATION),)
    running = Play(*WHOLE, source(is_running=True), anchors=anchors).steps
    assert (running.stop, running.create) == (("store-2-a",), ())
    in_use = Play(*WHOLE, source(slot=make_slot(is_active=True)), anchors=anchors).steps
    assert (in_use.stop, in_use.create) == ((), ())
    [taking] = Play(*WHOLE, source(), anchors=anchors).steps.create
    assert (taking.member, taking.snapshot) == ("store-2-a", f"store-s-{INCARNATION}")
    assert taking.stamps == stamps(INCARNATION)


def test_a_source_goes_once_its_snapshot_is_whole_and_stays_if_the_set_is_short() -> None:
    found = (snapshot(INCARNATION),)
    [release] = Play(*WHOLE, source(), snapshots=found, anchors=(anchor(INCARNATION),)).steps.release
    assert (release.goes, release.is_taken, release.failure) == (True, True, None)
    play = Play(WHOLE[0], source(), snapshots=found, anchors=(anchor(INCARNATION),))
    [release] = play.steps.release
    assert (release.goes, release.is_taken) == (False, True)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"anchors": ()}, "its anchor is gone"),
        ({"timeline": 2}, "a failover came between"),
        ({"memory": SetMemory().record_snapshot(Finding(Reason.QUOTA_EXCEEDED, ""), 999.0)}, "it was just refused"),
        ({"snapshots": None}, "the kind is gone"),
    ],
)
def test_a_source_starts_again_if_its_snapshot_is_not_to_be_taken(changes: dict[str, Any], what: str) -> None:
    changes = {"anchors": (anchor(INCARNATION),), **changes}
    steps = Play(*WHOLE, source(), **changes).steps
    [release] = steps.release
    assert (release.member, release.goes, release.failure) == ("store-2-a", False, None), what
    assert steps.create == ()


def test_a_source_starts_again_if_the_set_gets_short_before_its_snapshot_is_begun() -> None:
    [release] = Play(WHOLE[0], source(), anchors=(anchor(INCARNATION),)).steps.release
    assert not release.goes
    running = Play(WHOLE[0], standby(1, lag=BEYOND), source(is_running=True), anchors=(anchor(INCARNATION),)).steps
    assert [entry.member for entry in running.release] == ["store-2-a"]
    assert running.stop == ()


@pytest.mark.parametrize("minutes", [10, 12])
def test_a_source_that_cannot_be_stopped_in_time_starts_again(minutes: int) -> None:
    """Ten minutes, and as long as the sessions of a pod may take to end."""
    since = format_incarnation(NOW - timedelta(minutes=minutes))
    steps = Play(*WHOLE, source(since, slot=make_slot(is_active=True)), anchors=(anchor(since),)).steps
    failures = [entry.failure for entry in steps.release if entry.failure is not None]
    assert [failure.reason for failure in failures] == ([Reason.SNAPSHOT_FAILED] if minutes > 11 else [])


def test_a_source_whose_pod_outlives_its_end_starts_again_with_the_node_named() -> None:
    running = source(is_running=True)
    assert running.pod is not None
    pod = replace(running.pod, is_deleting=True, ends_at=NOW - timedelta(seconds=61), node="node-7")
    [release] = Play(*WHOLE, replace(running, pod=pod), anchors=(anchor(INCARNATION),)).steps.release
    assert release.failure is not None
    assert "check node node-7" in release.failure.message


def test_a_source_whose_slot_keeps_too_much_is_retired_and_is_no_failed_attempt() -> None:
    held = make_slot(is_active=False, wal_status="lost")
    plan, steps = Play(*WHOLE, source(slot=held), anchors=(anchor(INCARNATION),)).plans()
    [retirement] = plan.retire
    assert (retirement.name, retirement.is_failure) == ("store-2-a", False)
    assert steps.release == ()
