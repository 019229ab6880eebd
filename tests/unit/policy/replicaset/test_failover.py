"""After a change of the primary: who follows, who can never follow, and that no more than one is given up at a time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.model.conditions import Finding
from headroom.model.database import Lsn
from headroom.model.frozen import FrozenMap
from headroom.model.moments import Moment
from headroom.model.replica import Role
from headroom.model.timelines import TimelineHistory, WalPosition
from headroom.policy.replicaset.decide import SetDecision, decide
from headroom.policy.replicaset.facts import Answer, MemberFacts, SetFacts, Silence
from headroom.policy.replicaset.failover import find_divergence, may_follow, must_know_history
from headroom.policy.replicaset.memory import SetMemory
from headroom.policy.replicaset.stages import decide_stage
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    NOW,
    answer,
    context,
    make_facts,
    make_found,
    make_mark,
    make_member,
    make_pod,
    make_primary,
    make_probe,
    make_slot,
)

FORK = Lsn(1000)
HISTORY = TimelineHistory(2, ((1, FORK),))
SPEC = ReplicaSetSpec.model_validate(
    {
        "databaseRef": {"name": "store"},
        "image": "postgres:17",
        "storage": {"size": "1Gi"},
        "replicas": 2,
        "standbys": 2,
        "provisioning": {"method": "BaseBackup", "maxSlotWAL": "1Gi"},
    }
)


@pytest.mark.parametrize(
    ("position", "diverged", "follows"),
    [
        (None, False, False),
        (WalPosition(1), False, False),
        (WalPosition(1, Lsn(999), Lsn(999)), False, True),
        (WalPosition(1, FORK, FORK), False, True),
        (WalPosition(1, FORK, Lsn(1001)), False, False),
        (WalPosition(1, Lsn(1001), Lsn(1001)), True, False),
        (WalPosition(2, Lsn(5000), Lsn(5000)), False, False),
        (WalPosition(3, Lsn(5000), Lsn(5000)), False, False),
    ],
)
def test_only_what_was_replayed_past_the_fork_diverges(
    position: WalPosition | None, diverged: bool, follows: bool
) -> None:
    found = find_divergence(position, HISTORY)
    assert (found is not None) is diverged
    assert found is None or found.reason is Reason.TIMELINE_DIVERGED
    assert may_follow(position, HISTORY) is follows
    assert find_divergence(position, None) is None


def test_a_timeline_that_is_no_ancestor_cannot_be_left() -> None:
    sibling = TimelineHistory(4, ((1, FORK), (2, Lsn(2000))))
    found = find_divergence(WalPosition(3, Lsn(1), Lsn(1)), sibling)
    assert found is not None
    assert "does not descend" in found.message
    assert not may_follow(WalPosition(3, Lsn(1), Lsn(1)), sibling)


def test_a_position_only_grows_and_names_no_timeline_that_nobody_read() -> None:
    position = WalPosition(1, Lsn(900), Lsn(950))
    unread = make_probe(timeline=None, replay_lsn=Lsn(1200), receive_lsn=Lsn(1300))
    assert position.observe(unread) == WalPosition(1, Lsn(900), Lsn(1300))
    assert position.observe(replace(unread, wal_timeline=1)) == WalPosition(1, Lsn(1200), Lsn(1300))
    assert position.observe(replace(unread, wal_timeline=2)) == WalPosition(2, Lsn(1200), Lsn(1300))
    restarted = make_probe(timeline=1, replay_lsn=Lsn(10), receive_lsn=Lsn(20))
    assert WalPosition(2, Lsn(1200), Lsn(1300)).observe(restarted) == WalPosition(2, Lsn(1200), Lsn(1300))
    assert position.observe(restarted) == position


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("1\t0/3E8\tno recovery target specified\n", ((1, FORK),)),
        ('# kept\n\n1\t0/3E8\tbefore 2026-01-01\n\n2\t0/7D0\tat restore point "2 0/1"\n', ((1, FORK), (2, Lsn(2000)))),
    ],
)
def test_a_history_is_read_as_postgresql_writes_it(text: str, ends: tuple[tuple[int, Lsn], ...]) -> None:
    assert TimelineHistory.parse(3, text).ends == ends


def test_a_history_without_a_line_is_none() -> None:
    with pytest.raises(ValueError, match="names no earlier timeline"):
        TimelineHistory.parse(3, "garbage")


NOTHING = SetMemory()


def at(seconds: float) -> Moment:
    return Moment(seconds, NOW)


def member(ordinal: int, role: Role, lsn: int, *, timeline: int = 1, is_streaming: bool = False) -> MemberFacts:
    """A member on a timeline; without a receiver, as its new primary refuses it."""
    found = make_found(ordinal)
    assert found.pod is not None
    since = NOW if role is Role.DRAINING else None
    why = Reason.TIMELINE_DIVERGED if role is Role.DRAINING else None
    return replace(
        found,
        pod=make_pod(role, name=found.name, uid=f"u{ordinal}", draining_since=since, why=why),
        is_listed=role is Role.SERVING,
        reading=read(lsn, timeline, is_streaming=is_streaming),
    )


def read(lsn: int, timeline: int, *, is_streaming: bool = False, now: float = 0.0) -> Answer:
    received = timeline if is_streaming else None
    return answer(now, lsn, timeline=received, is_streaming=is_streaming, wal_timeline=timeline)


def after_failover(*found: MemberFacts, now: float = 0.0, history: TimelineHistory | None = HISTORY) -> SetFacts:
    primary = make_primary(now, timeline=2)
    return make_facts(*found, primary=replace(primary, history=history))


def run(*facts: SetFacts, memory: SetMemory = NOTHING) -> tuple[SetDecision, SetMemory]:
    for number, each in enumerate(facts):
        outcome = decide(SPEC, each, memory, at(float(number)))
        memory = outcome.memory
    return outcome.decision, memory


ROLES = st.sampled_from([Role.SERVING, Role.SERVING, Role.STANDBY, Role.DRAINING, Role.PROVISIONING])


@given(st.lists(st.tuples(ROLES, st.integers(980, 1020), st.booleans()), min_size=1, max_size=7))
def test_from_any_mix_one_goes_at_most_and_whoever_can_follow_stays(mix: list[tuple[Role, int, bool]]) -> None:
    found = [
        member(number, role, lsn, timeline=2 if follows and lsn <= FORK else 1, is_streaming=follows and lsn <= FORK)
        for number, (role, lsn, follows) in enumerate(mix)
    ]
    diverged = {each.name for each, (_, lsn, _) in zip(found, mix, strict=True) if lsn > FORK}
    decision, _ = run(after_failover(*found))
    lost = [entry for entry in decision.plan.retire if entry.reason is Reason.TIMELINE_DIVERGED]
    assert len(lost) <= 1
    assert {entry.name for entry in lost} <= diverged
    assert not diverged & {entry.name for entry in decision.plan.retire if entry not in lost}
    serving = {each.name for each in found if each.pod is not None and each.pod.role is Role.SERVING}
    assert {entry.name for entry in decision.plan.eject} == serving & diverged, "all of them at once, and no other"
    assert not diverged & {*decision.plan.activate, *decision.plan.pool, *decision.plan.accept}
    assert not decision.plan.recreate, "one that follows is left alone"


def test_nobody_is_retired_as_one_too_many_while_others_are_rebuilt() -> None:
    surplus = [member(number, Role.PROVISIONING, 990) for number in range(2, 6)]
    found = [member(0, Role.SERVING, 990), member(1, Role.SERVING, 1500), *surplus]
    decision, _ = run(after_failover(*found))
    assert not decision.plan.retire
    assert not decision.plan.drain


def all_diverged() -> list[MemberFacts]:
    return [
        member(0, Role.SERVING, 1500),
        member(1, Role.SERVING, 1500),
        member(2, Role.STANDBY, 1500),
        member(3, Role.STANDBY, 1500),
    ]


def test_when_all_are_past_the_fork_the_next_waits_for_the_copy_of_the_one_before() -> None:
    zero, one, two, three = all_diverged()
    decision, memory = run(after_failover(zero, one, two, three))
    assert [entry.name for entry in decision.plan.eject] == [zero.name, one.name]
    assert [entry.name for entry in decision.plan.retire] == [two.name]
    assert decision.plan.reserve == 1
    left = [member(0, Role.DRAINING, 1500), member(1, Role.DRAINING, 1500), three]
    decision, memory = run(after_failover(*left), memory=memory)
    assert not decision.plan.retire, "nothing is there yet in place of the first"
    copying = replace(make_found(4), pod=make_pod(Role.PROVISIONING, name="store-4-a", is_ready=False))
    decision, memory = run(after_failover(*left, copying), memory=memory)
    assert not decision.plan.retire, "its copy is not there yet"
    copied = member(4, Role.STANDBY, 1500, timeline=2, is_streaming=True)
    decision, memory = run(after_failover(*left, copied), memory=memory)
    assert [entry.name for entry in decision.plan.retire] == [three.name]


def test_slots_made_anew_at_an_older_redo_hide_nobody_who_diverged() -> None:
    """The primary has written past what the member holds by now, and its new slot keeps more than that."""
    [found] = [replace(member(0, Role.SERVING, 1500), slot=make_slot(name="hr_a_b_0_a", restart_lsn=Lsn(900)))]
    primary = make_primary(timeline=2)
    marks = tuple(replace(mark, lsn=Lsn(9000)) for mark in primary.marks)
    facts = make_facts(found, primary=replace(primary, marks=marks, history=HISTORY))
    decision, _ = run(facts)
    [ejection] = decision.plan.eject
    assert (ejection.name, ejection.reason) == (found.name, Reason.TIMELINE_DIVERGED)
    assert "0/5DC" in ejection.message
    assert "0/3E8" in ejection.message


def test_one_that_waits_for_its_turn_must_not_fill_the_disk_of_the_primary() -> None:
    waiting = make_member(divergence=Finding(Reason.TIMELINE_DIVERGED, ""))
    verdict = decide_stage(waiting, context(flush_lsn=10**9, wal_cap=10**6))
    assert (verdict.reason, verdict.is_failed) == (Reason.WAL_CAP_REACHED, True)


def test_the_highest_position_ever_seen_counts_even_of_a_server_that_restarted_or_is_silent() -> None:
    before = make_facts(replace(make_found(), reading=read(1500, 1, is_streaming=True)))
    _, memory = run(before)
    restarted = member(0, Role.STANDBY, 990)
    silent = replace(restarted, reading=Silence("connection refused"))
    for found in (restarted, silent):
        decision, _ = run(after_failover(found), memory=memory)
        [verdict] = [each.verdict for each in decision.members]
        assert (verdict.reason, verdict.is_failed) == (Reason.TIMELINE_DIVERGED, True)


def test_one_that_follows_after_all_is_well() -> None:
    _, memory = run(after_failover(member(0, Role.STANDBY, 1500)))
    decision, _ = run(after_failover(member(0, Role.STANDBY, 1500, timeline=2, is_streaming=True)), memory=memory)
    assert [each.verdict.is_failed for each in decision.members] == [False]


def test_nobody_is_condemned_while_the_fork_is_not_known() -> None:
    decision, memory = run(after_failover(member(0, Role.SERVING, 1500), member(1, Role.STANDBY, 1500), history=None))
    assert not decision.plan.eject
    assert not any(each.verdict.is_failed for each in decision.members)
    # And not by the fork of the timeline before.
    later = make_facts(member(0, Role.STANDBY, 1500), primary=make_primary(timeline=3))
    decision, _ = run(later, memory=replace(memory, history=HISTORY))
    assert not any(each.verdict.is_failed for each in decision.members)


def test_the_word_of_an_old_primary_destroys_nothing() -> None:
    """A member follows the new primary before the guard does: the old one is not believed from then on."""
    found = [member(number, Role.SERVING, 1500, timeline=2, is_streaming=True) for number in range(2)]
    decision, memory = run(make_facts(*found))
    assert memory.timeline == 2
    assert not decision.plan.eject
    assert not decision.plan.retire


def test_without_a_primary_a_diverged_member_still_leaves_and_none_is_given_up() -> None:
    _, memory = run(after_failover(*all_diverged()))
    decision, _ = run(replace(after_failover(*all_diverged()), primary=None), memory=memory)
    assert len(decision.plan.eject) == 2
    assert not decision.plan.retire


@pytest.mark.parametrize(("role", "seconds", "is_recreated"), [(Role.STANDBY, 5, False), (Role.STANDBY, 15, True)])
def test_one_that_still_streams_from_the_old_primary_is_connected_to_the_new(
    role: Role, seconds: int, is_recreated: bool
) -> None:
    facts = [
        after_failover(replace(member(0, role, 990), reading=read(990, 1, is_streaming=True, now=now)), now=now)
        for now in map(float, range(seconds))
    ]
    decision, _ = run(*facts)
    assert bool(decision.plan.recreate) is is_recreated
    assert not decision.plan.retire


def test_one_that_serves_alone_is_connected_last() -> None:
    def play(*others: Role) -> tuple[str, ...]:
        facts = [
            after_failover(
                *(
                    replace(member(number, role, 990), reading=read(990, 1, is_streaming=True, now=now))
                    for number, role in enumerate([Role.SERVING, *others])
                ),
                now=now,
            )
            for now in map(float, range(65))
        ]
        return run(*facts)[0].plan.recreate

    assert play() == ("store-0-a",)
    assert play(Role.STANDBY) == ("store-1-a",)


def cut_off(ordinal: int, role: Role, *, replayed: int, received: int, timeline: int | None, now: float) -> MemberFacts:
    """A member without a receiver; its login may not read the timeline of its WAL where that is None."""
    found, at_end = member(ordinal, role, replayed), {"receive_lsn": Lsn(received), "wal_timeline": timeline}
    return replace(found, reading=answer(now, replayed, timeline=None, is_streaming=False, **at_end))


def play_cut_off(
    seconds: int, *, replayed: int, received: int, timeline: int | None, memory: SetMemory = NOTHING
) -> tuple[SetDecision, SetMemory]:
    """Two serving members and two standbys after a failover, for so long."""
    for now in map(float, range(seconds)):
        found = [
            cut_off(number, role, replayed=replayed, received=received, timeline=timeline, now=now)
            for number, role in enumerate((Role.SERVING, Role.STANDBY, Role.SERVING, Role.STANDBY))
        ]
        outcome = decide(SPEC, after_failover(*found, now=now), memory, at(now))
        memory = outcome.memory
    return outcome.decision, memory


def test_half_a_record_past_the_fork_condemns_nobody_who_has_not_replayed_it() -> None:
    """A primary that crashes leaves one, and the new one forks off before it: PostgreSQL lets all of them follow."""
    decision, _ = play_cut_off(30, replayed=1000, received=1500, timeline=1)
    assert [each.verdict.is_failed or each.verdict.is_due_for_replacement for each in decision.members] == [False] * 4
    assert not decision.plan.retire
    assert not [entry for entry in decision.plan.eject if entry.reason is Reason.TIMELINE_DIVERGED]


def test_one_that_may_have_diverged_is_no_candidate_also_while_the_primary_is_away() -> None:
    _, memory = run(make_facts(replace(make_found(1), reading=answer(0.0, 1000))))
    found = replace(make_found(1), reading=answer(1.0, 1000, receive_lsn=Lsn(1500)))
    followed = member(0, Role.SERVING, 1000, timeline=2, is_streaming=True)
    gone = replace(followed, pod=make_pod(Role.SERVING, name=followed.name, uid="u0", is_ready=False), reading=None)
    _, memory = run(after_failover(followed, replace(found, reading=Silence("")), now=1.0), memory=memory)
    away = replace(make_facts(gone, found), primary=None, outage=Finding(Reason.PRIMARY_UNREACHABLE, ""))
    for now in (2.0, 4.0, 7.5):
        outcome = decide(SPEC, away, memory, at(now))
        memory = outcome.memory
    [standby] = [each for each in outcome.decision.members if each.name == found.name]
    assert standby.verdict.reason is Reason.TIMELINE_DIVERGED
    assert found.name not in outcome.decision.plan.activate


@pytest.mark.parametrize(("replayed", "timeline"), [(1000, 1), (1500, None)])
def test_one_that_may_have_diverged_is_replaced_after_a_minute(replayed: int, timeline: int | None) -> None:
    """The standby first, and the serving one is kept until another can take its place."""
    decision, _ = play_cut_off(70, replayed=replayed, received=1500, timeline=timeline)
    assert [each.verdict.reason for each in decision.members] == [Reason.TIMELINE_DIVERGED] * 4
    assert [(each.verdict.is_failed, each.verdict.is_due_for_replacement) for each in decision.members] == [
        (False, True)
    ] * 4
    assert [entry.name for entry in decision.plan.retire] == ["store-1-a"]
    assert ("pg_ls_waldir" in decision.members[0].verdict.message) is (timeline is None)


def test_one_of_which_no_timeline_was_ever_known_asks_for_the_fork_once_there_was_one() -> None:
    [found] = [cut_off(0, Role.STANDBY, replayed=1500, received=1500, timeline=None, now=0.0)]
    assert must_know_history({}, [found], make_mark(0.0, timeline=2))
    assert not must_know_history({}, [found], make_mark(0.0, timeline=1))
    assert not must_know_history({}, [replace(found, reading=Silence(""))], make_mark(0.0, timeline=2))
    assert not must_know_history({found.name: WalPosition(2)}, [found], make_mark(0.0, timeline=2))


@pytest.mark.parametrize(("role", "is_replaced"), [(Role.STANDBY, True), (Role.PROVISIONING, False)])
def test_a_new_copy_is_of_the_present_timeline(role: Role, is_replaced: bool) -> None:
    """It waits for its stream like any other; of a standby nobody knows since when it has had none."""
    memory = SetMemory(timeline=2)
    for now in map(float, range(70)):
        found = cut_off(0, role, replayed=1500, received=1500, timeline=None, now=now)
        outcome = decide(SPEC, after_failover(found, now=now), memory, at(now))
        memory = outcome.memory
    assert [each.verdict.is_due_for_replacement for each in outcome.decision.members] == [is_replaced]


def test_one_whose_timeline_was_known_is_not_replaced_for_a_stream_that_is_down() -> None:
    """Its login cannot read the timeline now. That of before shows that the failover is long over for it."""
    memory = SetMemory(timeline=2, positions=FrozenMap({f"store-{number}-a": WalPosition(2) for number in range(4)}))
    decision, _ = play_cut_off(70, replayed=1500, received=1500, timeline=None, memory=memory)
    assert not any(each.verdict.is_due_for_replacement for each in decision.members)


def test_the_fork_stays_known_in_a_pass_that_does_not_ask_for_it() -> None:
    _, memory = run(after_failover(member(0, Role.STANDBY, 1500)))
    decision, memory = run(after_failover(member(0, Role.STANDBY, 1500), history=None), memory=memory)
    assert [each.verdict.is_failed for each in decision.members] == [True]
    assert memory.history == HISTORY


def test_one_that_cannot_be_asked_holds_up_a_scale_in_for_a_minute_and_is_named() -> None:
    memory = run(make_facts(*(replace(make_found(number), reading=answer(0.0, 990)) for number in range(4))))[1]
    waits, drained = [], []
    for now in map(float, range(70)):
        well = [replace(member(number, Role.SERVING, 990), reading=answer(now, 990, timeline=2)) for number in range(3)]
        hung = replace(member(3, Role.STANDBY, 990), reading=Silence("timeout"))
        outcome = decide(SPEC, after_failover(*well, hung, now=now), memory, at(now))
        memory = outcome.memory
        waits.append(outcome.decision.plan.scale_in_wait)
        drained.append(bool(outcome.decision.plan.drain))
    assert "store-3-a does not follow the primary's new timeline yet" in waits[30]
    assert not any(drained[:60])
    assert not waits[-1]
    assert drained[-1]
