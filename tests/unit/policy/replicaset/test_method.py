"""What a new member is created from."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.provisioning import Method
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.copies import FROM_NONE
from headroom.model.database import Lsn, SlotFacts
from headroom.policy.replicaset.decide import decide
from headroom.policy.replicaset.facts import PrimaryFacts, SetFacts
from headroom.policy.replicaset.memory import LeadTimes, SetMemory
from headroom.policy.replicaset.method import choose_method, needs_history
from headroom.policy.replicaset.restores import RestoreFailures
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    NOW,
    make_found,
    make_mark,
    make_slot,
)
from tests.unit.policy.replicaset.snapshot_parts import (
    ANCHOR,
    ANCHORED,
    COPIED,
    FRESH,
    FROM,
    GI,
    GIVEN_UP,
    HERE,
    LOST,
    MI,
    MOMENT,
    NEWER,
    SNAPSHOT,
    STAMPS,
    TO,
    facts_of,
    primary,
    spec_of,
    stamped,
    with_fork,
)


def test_a_snapshot_that_fits_is_taken_and_the_slot_copied_from_its_anchor() -> None:
    choice = choose_method(spec_of(), facts_of(), SetMemory())
    assert (choice.method, choice.snapshot, choice.anchor) == (Method.VOLUME_SNAPSHOT, SNAPSHOT, ANCHOR)
    assert (choice.spare, choice.wait) == (None, None)
    assert choice.why.startswith("snapshot store-s-1 is 12 MiB of WAL behind and takes about ")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        pytest.param(facts_of(replace(SNAPSHOT, is_ready=False)), "is not ready yet", id="not ready"),
        pytest.param(facts_of(replace(SNAPSHOT, is_ready=False, error="no space")), "is not ready: no space", id="err"),
        pytest.param(facts_of(replace(SNAPSHOT, is_deleting=True)), "is being deleted", id="deleting"),
        pytest.param(facts_of(replace(SNAPSHOT, stamps=None)), "lacks stamps", id="no stamps"),
        pytest.param(facts_of(stamped(to_lsn=None)), "lacks stamps", id="not stamped to its end"),
        pytest.param(facts_of(stamped(consistency="Fuzzy")), "does not know: Fuzzy", id="unknown consistency"),
        pytest.param(facts_of(stamped(system_identifier="9")), "is of system 9, the primary is 1", id="other system"),
        pytest.param(facts_of(stamped(major=16)), "is of PostgreSQL 16, the primary is 17", id="other major"),
        pytest.param(facts_of(stamped(timeline=2)), "is of timeline 2, the primary is on 1", id="later timeline"),
        pytest.param(facts_of(primary=primary(2)), "where the primary's 2 forked off is not known", id="no history"),
        pytest.param(facts_of(primary=with_fork(7, HERE)), "the primary's 2 does not descend", id="no ancestor"),
        pytest.param(facts_of(primary=with_fork(1, TO - 1)), f"may have WAL up to {TO}, and the", id="past the fork"),
        pytest.param(facts_of(anchors=()), "has no anchor any more: slot hr_a_b_s_1 is gone", id="no anchor"),
        pytest.param(facts_of(anchors=(LOST,)), "raise max_slot_wal_keep_size", id="lost"),
        pytest.param(facts_of(anchors=(GIVEN_UP,)), "raise idle_replication_slot_timeout", id="given up as idle"),
        pytest.param(facts_of(anchors=(replace(ANCHORED, restart_lsn=None),)), "hr_a_b_s_1 is gone", id="none kept"),
        pytest.param(
            facts_of(anchors=(replace(ANCHORED, restart_lsn=Lsn(FROM + 1)),)), f"needs WAL from {FROM}", id="too late"
        ),
        pytest.param(facts_of(replace(SNAPSHOT, size=3 * GI)), "needs a volume of 3.0 GiB, and storage", id="size"),
    ],
)  # fmt: skip
def test_one_that_does_not_fit_is_passed_over_with_the_cause(facts: SetFacts, says: str) -> None:
    choice = choose_method(spec_of(), facts, SetMemory())
    assert (choice.method, choice.snapshot, choice.wait) == (Method.BASE_BACKUP, None, None)
    assert choice.why.startswith("no snapshot fits: store-s-1 ")
    assert says in choice.why
    fixed = choose_method(spec_of("VolumeSnapshot"), facts, SetMemory())
    assert fixed.wait is not None
    assert fixed.wait.reason is Reason.NO_SNAPSHOT_FITS
    assert says in fixed.wait.message
    assert "set provisioning.method: Auto" in fixed.wait.message


@pytest.mark.parametrize(
    ("facts", "spec"),
    [
        pytest.param(facts_of(primary=with_fork(1, TO)), spec_of(), id="forked off where its WAL may end"),
        pytest.param(facts_of(anchors=(replace(ANCHORED, restart_lsn=FROM),)), spec_of(), id="anchor at its begin"),
        pytest.param(facts_of(replace(SNAPSHOT, size=2 * GI)), spec_of(), id="a larger volume"),
        pytest.param(facts_of(replace(SNAPSHOT, size=2 * GI)), spec_of(storage="256Mi"), id="rounded up by the driver"),
        pytest.param(facts_of(replace(SNAPSHOT, size=None)), spec_of(), id="no size given"),
        pytest.param(facts_of(stamped(consistency="Atomic")), spec_of(), id="atomic"),
    ],
)
def test_one_at_the_edge_fits(facts: SetFacts, spec: ReplicaSetSpec) -> None:
    assert choose_method(spec, facts, SetMemory()).method is Method.VOLUME_SNAPSHOT


def test_one_that_keeps_more_wal_than_a_slot_may_is_not_taken_since_it_would_be_given_up_at_once() -> None:
    facts = facts_of()
    assert choose_method(spec_of(maxSlotWAL="64Mi"), facts, SetMemory()).snapshot is not None
    kept = facts_of(anchors=(replace(ANCHORED, restart_lsn=Lsn(HERE - 64 * MI - 1)),))
    found = choose_method(spec_of(maxSlotWAL="64Mi"), kept, SetMemory())
    assert found.why == "no snapshot fits: store-s-1 is 64 MiB of WAL behind, and a slot may keep 64 MiB"


@pytest.mark.parametrize(
    ("slot", "anchors", "is_taken"),
    [
        (COPIED, (ANCHORED,), True),
        (COPIED, (), True),
        (FRESH, (ANCHORED,), False),
        (make_slot(restart_lsn=None), (ANCHORED,), False),
    ],
)
def test_a_slot_decides_by_what_it_keeps_itself(
    slot: SlotFacts, anchors: tuple[SlotFacts, ...], is_taken: bool
) -> None:
    found = choose_method(spec_of(), facts_of(anchors=anchors), SetMemory(), slot)
    assert (found.snapshot is not None) is is_taken


def test_what_led_to_a_copy_is_said_again_once_the_slot_for_it_is_there() -> None:
    memory = SetMemory(base_backup=LeadTimes((3.0,)), volume_snapshot=LeadTimes((60.0,)))
    begun, claimed = (choose_method(spec_of(), facts_of(), memory, slot) for slot in (None, FRESH))
    assert begun == claimed
    assert "which is less than half" in begun.why
    assert begun.spare == SNAPSHOT


def test_the_assumed_time_of_a_copy_is_that_of_the_data_once_their_size_is_known() -> None:
    here = PrimaryFacts(primary().view, (make_mark(0.0, FROM + 1000 * MI),))
    spec = spec_of(maxSlotWAL="4Gi", storage="2Gi")
    found = [
        choose_method(spec, facts_of(primary=replace(here, data_bytes=size)), SetMemory()).method
        for size in (None, 100 * MI)
    ]
    assert found == [Method.VOLUME_SNAPSHOT, Method.BASE_BACKUP]


def test_a_snapshot_is_restored_where_the_faster_base_backup_would_have_to_wait() -> None:
    memory = SetMemory(base_backup=LeadTimes((3.0,)), volume_snapshot=LeadTimes((60.0,)))
    calm, busy = (
        decide(spec_of(), facts_of(primary=with_guard(state)), memory, MOMENT).decision
        for state in (GuardState.HEALTHY, GuardState.OVERLOADED)
    )
    assert (calm.copies.begin.method, calm.copies.refusal) == (Method.BASE_BACKUP, None)
    assert (busy.copies.begin.snapshot, busy.copies.begin.anchor) == (SNAPSHOT, ANCHOR)
    assert busy.copies.refusal is None, "nothing waits"
    assert "which is less than half; but a copy from the primary waits" in busy.copies.begin.why
    assert (calm.plan.reserve, busy.plan.reserve) == (1, 1)


def with_guard(state: GuardState) -> PrimaryFacts:
    facts = primary()
    return replace(facts, view=replace(facts.view, state=state))


def test_a_slot_that_fits_a_snapshot_leads_to_it_where_a_copy_would_have_to_wait() -> None:
    memory = SetMemory(base_backup=LeadTimes((3.0,)), volume_snapshot=LeadTimes((60.0,)))
    begun = make_found(2, pod=None, claim=None, slot=replace(COPIED, name="hr_a_b_2_z"), slot_name="hr_a_b_2_z")
    facts = replace(facts_of(primary=with_guard(GuardState.OVERLOADED)), members=(begun,))
    [member] = (decided := decide(spec_of(), facts, memory, MOMENT).decision).members
    assert member.facts.choice is not None
    assert member.facts.choice.snapshot == SNAPSHOT
    assert (decided.copies.sources[begun.name], decided.copies.waits) == (FROM_NONE, {})
    assert decided.plan.seed == (begun.name,)


@pytest.mark.parametrize(
    ("spec", "changes", "why"),
    [
        (spec_of("BaseBackup"), {}, "provisioning.method is BaseBackup"),
        (spec_of(has_snapshots=False), {}, "provisioning.snapshots is not set"),
        (spec_of(), {"snapshots": None}, "the cluster has no VolumeSnapshots: install the snapshot CRDs"),
        (spec_of(), {"snapshots": ()}, "there is no snapshot yet"),
        (spec_of(), {"primary": None}, "the primary is not known now"),
    ],
)
def test_a_base_backup_is_left_where_there_is_nothing_to_choose(
    spec: ReplicaSetSpec, changes: dict[str, Any], why: str
) -> None:
    choice = choose_method(spec, facts_of(**changes), SetMemory())
    assert (choice.method, choice.anchor, choice.snapshot, choice.spare) == (Method.BASE_BACKUP, "", None, None)
    assert choice.why.startswith(why)


@pytest.mark.parametrize(
    ("behind", "restores", "copies", "want"),
    [
        pytest.param(12, (), (), Method.VOLUME_SNAPSHOT, id="nothing measured"),
        pytest.param(12, (), (1.0,), Method.VOLUME_SNAPSHOT, id="a quick copy, and no restore to compare"),
        pytest.param(900, (), (1.0,), Method.BASE_BACKUP, id="more to replay than to copy"),
        pytest.param(12, (8.0,), (4.3,), Method.VOLUME_SNAPSHOT, id="not twice as fast"),
        pytest.param(12, (8.0,), (4.0,), Method.BASE_BACKUP, id="twice as fast"),
        pytest.param(900, (8.0,), (14.0,), Method.VOLUME_SNAPSHOT, id="replay counts, just"),
        pytest.param(900, (8.0,), (12.0,), Method.BASE_BACKUP, id="replay counts, too much"),
        pytest.param(12, (8.0, 8.0, 90.0), (30.0,), Method.BASE_BACKUP, id="by the 90th percentile"),
    ],
)
def test_the_faster_one_is_taken_and_the_primary_spared_where_it_is_close(
    behind: int, restores: tuple[float, ...], copies: tuple[float, ...], want: Method
) -> None:
    here = PrimaryFacts(primary().view, (make_mark(0.0, FROM + behind * MI),))
    memory = SetMemory(base_backup=LeadTimes(copies), volume_snapshot=LeadTimes(restores))
    found = choose_method(spec_of(maxSlotWAL="4Gi"), facts_of(primary=here), memory)
    assert found.method is want
    assert ("assumed" in found.why) is not (bool(copies) and bool(restores)), "what rests on no measurement says so"


def test_the_assumed_time_of_a_copy_knows_the_rate_that_is_allowed() -> None:
    here = PrimaryFacts(primary().view, (make_mark(0.0, FROM + 1000 * MI),))
    slow, fast = (
        choose_method(spec_of(maxSlotWAL="4Gi", storage="512Mi", **rate), facts_of(primary=here), SetMemory())
        for rate in ({"maxRate": "10Mi"}, {})
    )
    assert (slow.method, fast.method) == (Method.VOLUME_SNAPSHOT, Method.BASE_BACKUP)
    assert "a base backup takes about 56 s (assumed" in slow.why
    assert "a base backup takes about 10 s (assumed" in fast.why


def test_the_newest_comes_first_and_one_that_failed_last() -> None:
    facts = facts_of(SNAPSHOT, NEWER)
    assert choose_method(spec_of(), facts, SetMemory()).snapshot == NEWER
    once = SetMemory().record_restore_failure(NEWER.name, ["store-s-1", "store-s-2"], 0.0)
    assert choose_method(spec_of(), facts, once).snapshot == SNAPSHOT
    alone = choose_method(spec_of(), facts_of(NEWER), once)
    assert alone.snapshot == NEWER, "once is no reason to give it up"


def test_two_failures_bar_what_there_is_and_a_later_one_is_taken() -> None:
    present = [SNAPSHOT.name, NEWER.name]
    memory = SetMemory()
    for name in (NEWER.name, SNAPSHOT.name):
        memory = memory.record_restore_failure(name, present, 0.0)
    found = choose_method(spec_of(), facts_of(SNAPSHOT, NEWER), memory)
    assert found.why == "no snapshot fits: store-s-2 was there when two restores in a row had failed"
    latest = replace(SNAPSHOT, name="store-s-3", created_at=NOW + timedelta(hours=2))
    assert choose_method(spec_of(), facts_of(SNAPSHOT, NEWER, latest), memory).snapshot == latest


def test_where_later_snapshots_fail_too_none_is_tried_for_a_while() -> None:
    """Else each new replica of a set whose driver restores nothing would come twenty minutes late, for ever."""
    memory, hour = SetMemory(), 3600.0
    for bars, hours in ((1, 0.0), (2, 1.0), (3, 2.0), (9, 24.0)):
        while memory.restore_failures.bars < bars:
            memory = memory.record_restore_failure("store-s-0", ["store-s-0"], 0.0)
        for at, method in ((hours * hour - 1, Method.BASE_BACKUP), (hours * hour, Method.VOLUME_SNAPSHOT)):
            facts = facts_of(primary=replace(primary(), marks=(make_mark(at, HERE, 1),)))
            if at >= 0:
                assert choose_method(spec_of(), facts, memory).method is method
            assert choose_method(spec_of("VolumeSnapshot"), facts, memory).snapshot == SNAPSHOT, "it has nothing else"
    scaled = memory.observe(facts_of(generation=2), spec_of().readiness, MOMENT)
    scaled = scaled.observe(facts_of(generation=3), spec_of().readiness, MOMENT)
    assert choose_method(spec_of(), facts_of(), scaled).method is Method.BASE_BACKUP, "it may be another count only"
    memory = memory.record_acceptance(7.0, restored_from="store-s-1")
    assert choose_method(spec_of(), facts_of(), memory).snapshot == SNAPSHOT


def test_failures_count_in_a_row_also_of_snapshots_that_are_gone() -> None:
    failures = RestoreFailures().fail("a", ["a", "b"], 0.0).keep(["b"])
    assert (failures.count, failures.failed) == (1, frozenset())
    assert failures.succeed("b").count == 0
    barred = failures.fail("b", ["b", "c"], 9.0)
    assert (barred.count, barred.barred) == (0, {"b", "c"})
    assert barred.succeed("c").barred == {"b"}
    assert barred.keep(["d"]) == RestoreFailures(bars=1, barred_at=9.0)


def test_another_spec_tries_them_again() -> None:
    memory = replace(SetMemory(generation=1), restore_failures=RestoreFailures(1, frozenset({"store-s-1"})))
    same, other = (memory.observe(facts_of(generation=each), spec_of().readiness, MOMENT) for each in (1, 2))
    assert (same.restore_failures.count, other.restore_failures.count) == (1, 0)


def test_a_restore_is_measured_apart_from_a_base_backup() -> None:
    memory = SetMemory().record_acceptance(7.0, restored_from="store-s-1").record_acceptance(31.0)
    assert (memory.volume_snapshot.samples, memory.base_backup.samples) == ((7.0,), (31.0,))


def test_the_fork_is_asked_for_only_where_it_decides_something() -> None:
    later, now = make_mark(0.0, HERE, 2), make_mark(0.0, HERE, 1)
    assert needs_history(facts_of(), later)
    assert not needs_history(facts_of(), now)
    assert needs_history(facts_of(snapshots=(), members=(make_found(restored=STAMPS),)), later)
    assert not needs_history(facts_of(snapshots=None), later)
