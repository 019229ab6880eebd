"""What becomes of copies from pass to pass: begun, seen, lost, begun anew, waited for, given up."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headroom.api.v1alpha1.provisioning import Source
from headroom.model.conditions import Finding
from headroom.model.copies import FROM_NONE, CopySource
from headroom.model.database import BackupProgress, Lsn, Mark
from headroom.model.replica import ContainerFacts, PodFacts, Role, Stage
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.copies import Copies, CopyMemory
from headroom.policy.replicaset.copy_estimate import ASSUMED_BYTES_PER_SECOND, CopyEstimate, WalHistory, find_excess
from headroom.policy.replicaset.copy_plan import decide_copies
from headroom.policy.replicaset.copy_progress import (
    SYNC_PHASE,
    CopyProgress,
    begin_copy,
    estimate_seconds,
    observe_copies,
)
from headroom.policy.replicaset.facts import MemberFacts
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.plan import decide_plan
from headroom.policy.replicaset.seed import check_seed
from headroom.policy.replicaset.sources import SourceRules
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BOUNDS,
    NOW,
    context,
    judge,
    make_claim,
    make_found,
    make_member,
    make_pod,
    make_targets,
)

RULES = SourceRules(Source.AUTO, BOUNDS)
MIB = 1024**2
NAME = "store-1-a"


def copying_pod(source: str = "store-0-a", **changes: Any) -> PodFacts:
    seed = ContainerFacts(**{"is_running": True, **changes.pop("seed", {})})
    known = {
        "name": NAME,
        "uid": "u1",
        "copy_source": source,
        "copy_why": "it is warm",
        "is_ready": False,
        "seed": seed,
    }
    return make_pod(Role.PROVISIONING, **{**known, **changes})


def source_pod(**changes: Any) -> PodFacts:
    known = {"copy_source": "primary", "has_tls": True, "authority": "PEM", "created_at": NOW - timedelta(hours=1)}
    return make_pod(Role.STANDBY, **{**known, **changes})


def observe(
    *found: MemberFacts, memory: CopyMemory | None = None, copies: dict[str, CopyProgress] | None = None
) -> CopyMemory:
    return (memory or CopyMemory()).observe(found, copies or {}, ())


def source(**changes: Any) -> MemberFacts:
    return make_found(0, pod=source_pod(**changes))


def new(pod: PodFacts | None, **changes: Any) -> MemberFacts:
    return make_found(1, pod=pod, **changes)


@pytest.mark.parametrize(
    ("found", "is_lost"),
    [
        ([source()], False),
        ([], True),
        ([source(is_deleting=True)], True),
        ([source(phase="Failed")], True),
        ([source(created_at=NOW + timedelta(seconds=1))], True),
        ([source(is_ready=False)], False),
        ([make_found(0, pod=None)], True),
    ],
    ids=["there", "gone", "being deleted", "ended", "recreated", "busy", "without a pod"],
)
def test_a_copy_has_lost_its_source_once_that_server_runs_no_more(found: list[MemberFacts], *, is_lost: bool) -> None:
    memory = observe(*found, new(copying_pod(created_at=NOW)))
    assert (memory.failed.get(NAME) == {"store-0-a"}) is is_lost


@pytest.mark.parametrize(
    ("exit_code", "is_lost"), [(1, True), (3, False), (4, False), (137, False), (143, False), (None, False)]
)
def test_a_run_that_failed_has_lost_its_source_and_one_that_was_ended_has_not(
    exit_code: int | None, *, is_lost: bool
) -> None:
    pod = copying_pod(seed={"exit_code": exit_code})
    assert (NAME in observe(source(), new(pod)).failed) is is_lost
    assert NAME not in observe(source(), new(replace(pod, copy_source="primary"))).failed


def test_a_lost_copy_begins_anew_from_another_source_as_the_same_member_and_without_a_failure() -> None:
    memory = observe(source(), new(copying_pod(seed={"exit_code": 1, "message": "failed"})))
    standby = make_member(Role.STANDBY, 0, pod=source_pod())
    lost = make_member(Role.PROVISIONING, 1, pod=copying_pod(seed={"exit_code": 1}), lag=None, probe=None, within=0)
    copies = decide_copies(judge(standby, lost), memory, RULES, None)
    assert copies.lost == {NAME}
    plan = decide_plan(judge(standby, lost), make_targets(copies=copies), NOW)
    assert (plan.recreate, plan.retire) == ((NAME,), ())
    memory = observe(source(), new(None), memory=memory)
    waiting = replace(lost, pod=None)
    again = decide_copies(judge(standby, waiting), memory, RULES, None)
    assert again.sources[NAME].name == "primary"
    other = make_member(Role.STANDBY, 2, pod=source_pod(name="store-2-a"))
    again = decide_copies(judge(standby, other, waiting), memory, RULES, None)
    assert again.sources[NAME].name == "store-2-a"


def test_only_standbys_and_all_failed_is_a_failed_attempt() -> None:
    memory = CopyMemory(frozenset({NAME}), {NAME: frozenset({"store-0-a"})})
    standby = make_member(Role.STANDBY, 0, pod=source_pod())
    waiting = make_member(None, 1, claim=make_claim(name=NAME))
    rules = replace(RULES, source=Source.STANDBY)
    judged = judge(standby, waiting)
    copies = decide_copies(judged, memory, rules, None)
    [verdict] = [member.verdict for member in copies.settle(judged) if member.name == NAME]
    assert (verdict.reason, verdict.is_failed) == (Reason.SEED_FAILED, True)


@pytest.mark.parametrize("name", ["store-s-b", ""])
def test_only_a_member_that_is_not_restored_waits_for_a_source(name: str) -> None:
    memory = CopyMemory(frozenset({NAME}))
    judged = judge(make_member(None, 1, claim=make_claim(name=NAME, restored_from=name)))
    copies = decide_copies(judged, memory, replace(RULES, guard_state="Overloaded"), None)
    assert (NAME in copies.sources, NAME in copies.waits) == (bool(name), not name)


def test_a_member_that_is_stopped_for_a_snapshot_needs_no_source_and_is_not_waited_for() -> None:
    claim = make_claim(name=NAME, snapshot="store-s-b")
    standby = make_member(Role.STANDBY, 0, pod=source_pod())
    stopped = replace(make_member(None, 1, claim=claim), behind_seconds=1.0)
    copies = decide_copies(judge(standby, stopped), CopyMemory(frozenset({NAME})), RULES, None)
    assert (dict(copies.sources), dict(copies.waits), copies.refusal) == ({}, {}, None)


def test_a_member_that_is_restored_is_never_taken_for_one_without_a_copy() -> None:
    claim = make_claim(name=NAME, restored_from="store-s-b")
    pod = copying_pod("none", seed={"exit_code": 5})
    found = make_found(1, pod=pod, claim=claim)
    memory = CopyMemory(frozenset({NAME})).observe([found], {}, ())
    assert memory.unfilled == frozenset()
    copies = decide_copies(judge(make_member(Role.PROVISIONING, 1, pod=pod, claim=claim)), memory, RULES, None)
    assert copies.lost == frozenset()


def test_who_waits_says_why_keeps_its_slot_and_gets_no_pod() -> None:
    memory = CopyMemory(frozenset({NAME}))
    waiting = make_member(None, 1)
    judged = judge(waiting)
    copies = decide_copies(judged, memory, replace(RULES, guard_state="Overloaded"), None)
    judged = list(copies.settle(judged))
    assert (judged[0].verdict.stage, judged[0].verdict.reason) == (Stage.SEEDED, Reason.COPY_WAITS)
    assert not judged[0].verdict.is_failed
    plan = decide_plan(judged, make_targets(copies=copies), NOW)
    assert (plan.seed, plan.retire, plan.restore_slots) == ((), (), ())
    assert copies.refusal is not None, "and no further member reserves a slot"


def test_a_pod_on_a_filled_volume_needs_no_source_and_waits_for_nothing() -> None:
    standby = make_member(Role.STANDBY, 1, claim=make_claim(name=NAME), pod=None)
    rules = replace(RULES, guard_state="Emergency", source=Source.STANDBY)
    excess = Finding(Reason.COPY_WOULD_EXCEED_SLOT_WAL, "too much")
    copies = decide_copies(judge(standby), CopyMemory(), rules, excess)
    assert copies.sources == {NAME: FROM_NONE}
    assert not copies.waits


@pytest.mark.parametrize(
    ("pod", "is_unfilled"),
    [
        (copying_pod(), True),
        (copying_pod("", seed={}), True),
        (copying_pod(seed={"is_running": False, "is_done": True}), False),
        (make_pod(Role.STANDBY), False),
        (copying_pod("none"), False),
        (copying_pod("none", seed={"exit_code": 5}), True),
    ],
    ids=["copies", "of an earlier version", "copied", "standby", "checks", "found nothing"],
)
def test_whose_volume_has_no_copy_is_known_by_the_last_pod(pod: PodFacts, *, is_unfilled: bool) -> None:
    memory = observe(new(pod))
    assert (NAME in memory.unfilled) is is_unfilled
    assert (NAME in observe(new(None), memory=memory).unfilled) is is_unfilled, "after its pod is gone"
    assert NAME in observe(new(None, claim=None)).unfilled, "without a claim there is nothing"


def test_a_volume_that_was_taken_for_filled_and_is_not_gets_a_source() -> None:
    member = make_member(Role.PROVISIONING, 1, pod=copying_pod("none", seed={"exit_code": 5}), lag=None)
    assert decide_copies(judge(member), CopyMemory(), RULES, None).lost == {NAME}


# progress


def streamed(done: int, total: int = 4096 * MIB, phase: str = "streaming database files") -> BackupProgress:
    return BackupProgress("hr_a_b_1_a", phase, done * MIB, total)


def test_the_rest_is_told_by_the_rate_of_the_last_minute() -> None:
    copy = begin_copy(("waiting for checkpoint to finish", 0), 0.0)
    for second in range(100):
        # 50 MiB a second at first, then 20: what was before the last minute no longer counts.
        done = 50 * min(second, 30) + 20 * max(second - 30, 0)
        copy = copy.observe(("streaming database files", done * MIB), 10.0 + second)
    assert copy.rate == pytest.approx(20 * MIB, rel=0.01)
    assert estimate_seconds(copy, streamed(2880)) == pytest.approx(60.8, rel=0.02)
    assert estimate_seconds(begin_copy(("streaming database files", 0), 0.0), streamed(1)) is None
    assert estimate_seconds(copy, streamed(1, phase="estimating backup size")) is None
    again = copy.observe(("streaming database files", MIB), 120.0)
    assert again.rate is None, "another try is measured anew"


def test_how_slow_a_copy_became_that_came_to_nothing_says_nothing_about_the_next() -> None:
    """Else no copy would ever be begun, and nothing measured: the primary writes more than slots keep in that time."""
    found = make_found(1, pod=copying_pod(), claim=make_claim(name=NAME))
    copy, memory = begin_copy(("streaming database files", 0), 0.0), CopyMemory()
    for second in range(120):
        copy = copy.observe(("streaming database files", min(second, 40) * 200 * MIB), float(second))
        memory = observe(found, memory=memory, copies={"u1": copy})
    assert memory.rate is not None
    assert memory.rate < 10 * MIB, "while it runs"
    assert observe(memory=memory).rate is None
    done = replace(found, pod=copying_pod(seed={"is_running": False, "is_done": True, "exit_code": 0}))
    kept = observe(done, memory=memory)
    assert kept.rate == memory.rate, "it is how fast a whole copy went"
    assert observe(memory=kept).rate == memory.rate


def member_with(backup: BackupProgress | None, **changes: Any) -> Member:
    copy = begin_copy(("streaming database files", 800 * MIB), 0.0)
    for second in range(1, 11):
        copy = copy.observe(("streaming database files", (800 + 40 * second) * MIB), float(second))
    pod = copying_pod()
    return make_member(Role.PROVISIONING, 1, **{"pod": pod, "backup": backup, "copy": copy, "lag": None, **changes})


def test_a_copy_is_told_in_words_with_its_source() -> None:
    verdict = check_seed(member_with(streamed(1200)), context())
    assert verdict is not None
    assert verdict.message == (
        "streaming database files: 1.2 of 4.0 GiB (29 %), about 72 s left; from store-0-a, since it is warm"
    )
    assert verdict.progress_percent == 29
    early = check_seed(member_with(streamed(0, 0, "waiting for checkpoint to finish")), context())
    assert early is not None
    assert early.message.startswith("waiting for checkpoint to finish; from store-0-a")
    unasked = check_seed(member_with(None, is_copy_observed=False), context())
    assert unasked is not None
    assert "store-0-a was not asked how far" in unasked.message


@pytest.mark.parametrize(
    ("phase", "limit"),
    [
        ("streaming database files", timedelta(minutes=2)),
        ("waiting for checkpoint to finish", timeouts.CHECKPOINT_LIMIT),
        ("estimating backup size", timeouts.ESTIMATE_LIMIT),
        ("waiting for wal archiving to finish", timeouts.WAL_LIMIT),
        ("transferring wal files", timeouts.WAL_LIMIT),
        ("a phase of a later version", timeouts.PREPARE_LIMIT),
    ],
)
def test_each_phase_has_its_own_time_without_progress(phase: str, limit: timedelta) -> None:
    for seconds, is_failed in ((limit.total_seconds() - 1, False), (limit.total_seconds() + 1, True)):
        verdict = check_seed(member_with(streamed(1200, phase=phase), still_seconds=seconds), context())
        assert verdict is not None
        assert verdict.is_failed is is_failed


def test_the_sync_after_the_files_has_a_time_of_its_own() -> None:
    copy = begin_copy(("streaming database files", 5), 0.0).observe(("", 0), 1.0)
    assert copy.progress[0] == SYNC_PHASE
    limit = timeouts.SYNC_LIMIT.total_seconds()
    assert limit > timeouts.PREPARE_LIMIT.total_seconds()
    for seconds, is_failed in ((limit - 1, False), (limit + 1, True)):
        verdict = check_seed(member_with(None, copy=copy, still_seconds=seconds), context())
        assert verdict is not None
        assert (verdict.is_failed, "synced" in verdict.message) == (is_failed, True)


def test_the_progress_of_a_copy_from_a_standby_stands_while_that_one_is_not_asked() -> None:
    found = new(copying_pod(), backup=streamed(5))
    known = observe_copies({}, [source(), found], 0.0, has_primary=True)
    for second in range(1, 5):
        blind = replace(found, backup=None, is_copy_observed=False)
        known = observe_copies(known, [source(), blind], float(second * 10), has_primary=True)
    assert known["u1"].still.seconds(40.0) == 0
    assert known["u1"].progress == ("streaming database files", 5 * MIB)
    known = observe_copies(known, [source(), found], 50.0, has_primary=False)
    known = observe_copies(known, [source(), found], 55.0, has_primary=False)
    assert known["u1"].still.seconds(55.0) == 15, "the source tells, whether the primary answers or not"


# WAL

GIB = 1024 * MIB
KNOWN = CopyEstimate(wal_rate=5.0 * MIB, size=4 * GIB, copy_rate=50.0 * MIB, kept=100 * MIB, cap=GIB)


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({}, False),
        ({"wal_rate": 12.0 * MIB}, True),
        ({"kept": 700 * MIB}, True),
        ({"cap": 300 * MIB}, True),
        ({"size": 16 * GIB}, True),
        ({"copy_rate": 10.0 * MIB}, True),
        ({"max_rate": 10 * MIB}, True),
        ({"copy_rate": None}, False),
        ({"copy_rate": None, "wal_rate": 30.0 * MIB}, True),
        ({"wal_rate": None, "cap": 1}, False),
        ({"size": None, "cap": 1}, False),
        ({"cap": None}, False),
    ],
)
def test_a_copy_whose_wal_would_not_fit_is_not_begun(changes: dict[str, Any], *, is_refused: bool) -> None:
    found = find_excess(replace(KNOWN, **changes))
    assert (found is not None) is is_refused
    if found is not None:
        assert found.reason is Reason.COPY_WOULD_EXCEED_SLOT_WAL
        assert "raise provisioning.maxSlotWAL" in found.message


def test_what_would_not_fit_is_told_with_its_figures() -> None:
    found = find_excess(replace(KNOWN, wal_rate=12.0 * MIB, copy_rate=None, max_rate=20 * MIB))
    assert found is not None
    assert found.message == (
        "no copy is begun: 4.0 GiB take about 205 s at 20 MiB/s, which is assumed, in which the primary writes about "
        "2.4 GiB of WAL; slots keep 100 MiB already, and 1.0 GiB are allowed: raise provisioning.maxSlotWAL, raise "
        "provisioning.maxRate, or wait until less is written"
    )
    assert ASSUMED_BYTES_PER_SECOND == 100 * MIB


def test_a_copy_that_would_not_fit_begins_when_less_is_written() -> None:
    excess = Finding(Reason.COPY_WOULD_EXCEED_SLOT_WAL, "too much")
    waiting, memory = make_member(None, 1), CopyMemory(frozenset({NAME}))
    assert decide_copies(judge(waiting), memory, RULES, excess).waits == {NAME: excess}
    assert decide_copies(judge(waiting), memory, RULES, excess).refusal == excess
    calm = decide_copies(judge(waiting), memory, RULES, None)
    assert isinstance(calm.sources[NAME], CopySource)
    assert calm.refusal is None


def test_the_wal_rate_is_that_of_the_last_minute_and_of_one_timeline() -> None:
    history = WalHistory()
    for second in range(200):
        lsn = second * 10 * MIB if second < 100 else 1000 * MIB + (second - 100) * MIB
        history = history.observe((Mark(float(second), Lsn(lsn), None, 1, "1"),))
    assert len(history.positions) <= 14
    assert history.rate == pytest.approx(MIB, rel=0.01)
    assert history.observe(()) == history
    assert history.observe((Mark(300.0, Lsn(5), None, 2, "1"),)).rate is None
    assert WalHistory().rate is None


def test_nothing_is_planned_for_members_that_go() -> None:
    going = make_member(None, 1, claim=make_claim(name=NAME, retire=Reason.RETIRED))
    assert decide_copies(judge(going), CopyMemory(), RULES, None) == Copies()
