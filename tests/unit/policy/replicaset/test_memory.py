"""What a row of passes tells of a set: restarts, idle slots, copies, outages, lead times and what was inherited."""

import copy
from datetime import timedelta
from typing import Any

import pytest

from headroom.model.conditions import Finding
from headroom.model.database import BackupProgress
from headroom.model.moments import Moment
from headroom.model.replica import ContainerFacts, PodFacts, Role
from headroom.policy.replicaset.facts import Answer, Reading, Silence
from headroom.policy.replicaset.member_memory import Inherited
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.memory import LEAD_TIMES_KEPT, LeadTimes, SetMemory, assemble
from headroom.policy.replicaset.replay_lag import NotEligible
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    BOUNDS,
    NOW,
    SYSTEM,
    answer,
    make_facts,
    make_found,
    make_pod,
    make_primary,
    make_slot,
)

NAME = "store-0-a"
LOST = Inherited(refusal=NotEligible(Reason.NOT_STREAMING, "its WAL receiver is not connected"), since=-90.0)


class Sets:
    """Passes over a whole set, a second apart."""

    def __init__(self) -> None:
        self.memory, self.at = SetMemory(began_at=0.0), 0.0

    def observe(self, *found: Any, step: float = 1.0, **changes: Any) -> SetMemory:
        facts = make_facts(*found, at=self.at, **changes)
        moment = Moment(self.at, NOW + timedelta(seconds=self.at))
        self.memory = self.memory.observe(facts, BOUNDS, moment)
        self.members = assemble(facts, self.memory, self.at)
        self.at += step
        return self.memory


def pod(restarts: int, *, is_ready: bool = False, ran: timedelta = timedelta()) -> PodFacts:
    server = ContainerFacts(is_running=is_ready, restarts=restarts, started_at=NOW - ran)
    return make_pod(Role.STANDBY, is_ready=is_ready, server=server)


def restarts_after(*pods: PodFacts) -> int:
    passes = Sets()
    for each in pods:
        passes.observe(make_found(pod=each), step=0.0)
    return passes.members[0].server_restarts


def test_restarts_count_since_the_server_last_ran_in_peace() -> None:
    assert restarts_after(pod(0), pod(6)) == 6
    assert restarts_after(pod(0), pod(5), pod(5, is_ready=True, ran=timedelta(hours=1)), pod(6)) == 1
    assert restarts_after(pod(0), pod(5), pod(5, is_ready=True, ran=timedelta(minutes=1)), pod(6)) == 6


def test_a_new_process_holds_no_old_restarts_against_a_member() -> None:
    assert restarts_after(pod(40)) == 0
    assert restarts_after(pod(40), pod(46)) == 6


def test_what_is_known_of_a_pod_that_is_gone_is_forgotten() -> None:
    passes = Sets()
    passes.observe(make_found(pod=pod(3), reading=answer(0.0)))
    assert passes.memory.peaceful_restarts
    assert passes.memory.members
    passes.observe(make_found(pod=None))
    assert passes.memory.peaceful_restarts == passes.memory.members == {}


def test_nothing_of_a_pod_is_held_against_the_one_that_follows_it() -> None:
    passes = Sets()
    for _ in range(4):
        passes.observe(make_found(reading=Silence("refused")))
    assert passes.members[0].unanswered == 4
    passes.observe(make_found(pod=make_pod(uid="another"), reading=Silence()))
    assert passes.members[0].unanswered == 1
    assert passes.members[0].silence == ""


def test_an_idle_slot_is_timed_by_the_server_or_else_by_us() -> None:
    passes = Sets()
    idle = make_slot(is_active=False)
    passes.observe(make_found(slot=idle), step=10.0)
    passes.observe(make_found(slot=idle))
    assert passes.members[0].slot_idle_seconds == 10
    passes.observe(make_found(slot=make_slot(is_active=False, inactive_seconds=400.0)))
    assert passes.members[0].slot_idle_seconds == 400
    passes.observe(make_found(slot=make_slot()))
    assert passes.members[0].slot_idle_seconds == 0
    assert passes.memory.idle_slots == {}


def copying(streamed: int, *, phase: str = "streaming database files", restarts: int = 0) -> Any:
    seed = ContainerFacts(is_running=True, restarts=restarts)
    backup = BackupProgress("hr_a_b_0_a", phase, streamed, 100) if streamed else None
    unfinished = make_pod(Role.PROVISIONING, is_ready=False, seed=seed, server=ContainerFacts())
    return make_found(pod=unfinished, backup=backup)


OUTAGE = Finding(Reason.PRIMARY_UNREACHABLE, "nothing answers")


def test_a_copy_stands_still_while_neither_phase_nor_bytes_move() -> None:
    passes = Sets()
    passes.observe(copying(10), step=30.0)
    passes.observe(copying(10), step=30.0)
    assert passes.members[0].still_seconds == 30
    passes.observe(copying(11), step=30.0)
    assert passes.members[0].still_seconds == 0
    passes.observe(copying(11, phase="waiting for checkpoint to finish"))
    assert passes.members[0].still_seconds == 0


def test_a_pass_without_the_primary_begins_no_count_of_a_copy_or_a_slot_anew() -> None:
    passes = Sets()
    idle = make_slot(name="hr_a_b_1_a", is_active=False)
    for _ in range(4):
        passes.observe(copying(10), make_found(1, slot=idle), step=30.0)
        passes.observe(copying(0), make_found(1, slot=None), step=30.0, primary=None, outage=OUTAGE)
    passes.observe(copying(10), make_found(1, slot=idle), step=0.0)
    assert [passes.members[0].still_seconds, passes.members[1].slot_idle_seconds] == [120, 120]
    passes.observe(copying(11), make_found(1, slot=make_slot(name="hr_a_b_1_a")))
    assert [passes.members[0].still_seconds, passes.members[1].slot_idle_seconds] == [0, 0]


def draining(**changes: Any) -> Any:
    return make_found(pod=make_pod(Role.DRAINING, uid="u0", **changes))


def test_a_drain_is_timed_from_when_this_process_sees_it() -> None:
    passes = Sets()
    passes.observe(make_found())
    assert (passes.members[0].drain_seconds, passes.members[0].saw_drain_begin) == (0, False)
    passes.observe(draining(), step=5.0)
    passes.observe(draining(), step=5.0, primary=None, outage=OUTAGE)
    assert (passes.members[0].drain_seconds, passes.members[0].saw_drain_begin) == (5, True)
    passes.observe(make_found())
    passes.observe(draining())
    assert passes.members[0].drain_seconds == 0
    taken_over = Sets()
    taken_over.observe(draining(), step=5.0)
    taken_over.observe(draining())
    assert (taken_over.members[0].drain_seconds, taken_over.members[0].saw_drain_begin) == (5, False)


def test_a_copy_that_has_not_begun_stands_still_by_the_restarts_of_its_step() -> None:
    passes = Sets()
    passes.observe(copying(0), step=30.0)
    passes.observe(copying(0), step=30.0)
    assert passes.members[0].still_seconds == 30
    passes.observe(copying(0, restarts=1))
    assert passes.members[0].still_seconds == 0


def test_a_member_that_has_its_copy_never_stands_still() -> None:
    passes = Sets()
    passes.observe(copying(10), step=30.0)
    passes.observe(make_found(), step=30.0)
    assert passes.members[0].still_seconds == 0
    assert passes.memory.copies == {}


def test_an_outage_is_timed_from_its_first_pass_and_ends_with_the_first_answer() -> None:
    passes = Sets()
    passes.observe()
    assert passes.memory.outage_since is None
    passes.observe(primary=None, outage=OUTAGE)
    assert passes.observe(primary=None, outage=OUTAGE).outage_since == 1.0
    assert passes.memory.has_seen_primary
    assert passes.observe().outage_since is None


def test_a_young_process_times_an_outage_from_its_own_beginning() -> None:
    memory = Sets().observe(primary=None, outage=OUTAGE)
    assert (memory.outage_since, memory.has_seen_primary) == (0.0, False)


def test_the_identity_of_the_first_primary_stays_and_its_highest_timeline() -> None:
    passes = Sets()
    passes.observe(primary=make_primary(0.0, timeline=3))
    memory = passes.observe(primary=make_primary(1.0, timeline=2))
    assert (memory.system_identifier, memory.timeline) == (SYSTEM, 3)
    assert passes.observe(primary=None, outage=OUTAGE).system_identifier == SYSTEM


def test_slots_are_what_the_primary_says_and_else_those_of_every_member() -> None:
    passes = Sets()
    assert passes.observe(make_found(), make_found(1, slot=None)).slot_names == {"hr_a_b_0_a"}
    blind = passes.observe(make_found(1, slot=None), primary=None, outage=OUTAGE)
    assert blind.slot_names == {"hr_a_b_0_a", "hr_a_b_1_a"}
    assert passes.observe().slot_names == frozenset()
    assert passes.memory.record_slot("hr_a_b_2_a").slot_names == {"hr_a_b_2_a"}


def test_a_slot_keeps_the_name_it_is_asked_for_until_the_primary_tells_otherwise() -> None:
    passes = Sets()
    passes.memory = passes.memory.record_slot("hr_a_b_0_a")
    assert passes.observe(primary=None, outage=OUTAGE).slot_names == {"hr_a_b_0_a"}


def test_failed_attempts_add_up_until_one_succeeds_or_another_spec_comes() -> None:
    failure = Finding(Reason.SEED_FAILED, "no space left")
    failed = SetMemory(generation=1).record_failure(failure, 5.0).record_failure(failure, 9.0)
    assert (failed.attempts.count, failed.attempts.failed_at, failed.attempts.failure) == (2, 9.0, failure)
    assert failed.record_acceptance(60.0).attempts.count == 0
    passes = Sets()
    passes.memory = failed
    assert passes.observe(generation=1).attempts.count == 2
    assert passes.observe(generation=2).attempts.count == 0


def test_lead_times_are_the_last_ones_and_their_ninetieth_percentile() -> None:
    assert LeadTimes().p90 is None
    times = LeadTimes()
    for number in range(1, 31):
        times = times.add(float(number))
    assert len(times.samples) == LEAD_TIMES_KEPT
    assert times.p90 == 28.0
    assert LeadTimes((3.0,)).p90 == 3.0


def test_an_acceptance_that_tells_no_time_leaves_the_times_alone() -> None:
    memory = SetMemory().record_acceptance(None)
    assert memory.base_backup.samples == ()
    assert memory.record_acceptance(40.0).base_backup.samples == (40.0,)
    assert memory.record_activation(0.5).warm.samples == (0.5,)


def test_wanted_counts_are_kept_for_the_longest_window() -> None:
    memory = SetMemory()
    for at in range(0, 8000, 100):
        memory = memory.recommend(2, 3, float(at))
    assert memory.desired == 3
    assert memory.recommendations[0].at == 4300
    assert memory.recommendations[-1].at == 7900


def test_observing_changes_no_value_that_was_there() -> None:
    passes = Sets()
    before = passes.observe(make_found(reading=Silence()), copying(5))
    kept = copy.deepcopy(before)
    passes.observe(make_found(reading=answer(1.0)), copying(6))
    assert before == kept


@pytest.mark.parametrize("reading", [None, Silence("refused"), answer(0.0)])
def test_a_member_is_what_was_found_and_what_is_remembered(reading: Reading | None) -> None:
    passes = Sets()
    found = make_found(is_listed=True, is_node_lost=True, reading=reading)
    passes.observe(found)
    [member] = passes.members
    assert isinstance(member, Member)
    assert (member.name, member.pod, member.claim, member.slot) == (NAME, found.pod, found.claim, found.slot)
    assert member.is_listed
    assert member.is_node_lost
    assert (member.probe is not None) == isinstance(reading, Answer)
    assert member.unanswered == (1 if isinstance(reading, Silence) else 0)


def test_a_stream_that_another_process_saw_broken_is_timed_from_then_on() -> None:
    passes = Sets()
    passes.memory = SetMemory(began_at=0.0, inherited={NAME: LOST})
    passes.observe(make_found(reading=answer(0.0, is_streaming=False, timeline=None)))
    assert passes.members[0].refused_seconds == 90
    assert passes.members[0].broken_seconds == 0, "a copy is thrown away only for what this process saw"
    passes.observe(make_found(reading=answer(1.0)))
    passes.observe(make_found(reading=answer(2.0, is_streaming=False, timeline=None)))
    assert passes.members[0].refused_seconds == 0


@pytest.mark.parametrize("reading", [answer(0.0), answer(0.0, timeline=2)])
def test_a_stream_that_stands_or_meets_something_else_inherits_nothing(reading: Reading) -> None:
    passes = Sets()
    passes.memory = SetMemory(began_at=0.0, inherited={NAME: LOST})
    passes.observe(make_found(reading=reading))
    assert passes.members[0].refused_seconds == 0


def test_a_pod_that_was_recreated_inherits_nothing() -> None:
    passes = Sets()
    passes.memory = SetMemory(began_at=0.0, inherited={NAME: LOST})
    passes.observe(make_found(reading=Silence("refused")))
    broken = answer(1.0, is_streaming=False, timeline=None)
    passes.observe(make_found(pod=make_pod(uid="another"), reading=broken))
    assert passes.members[0].refused_seconds == 0


def test_a_pod_that_comes_after_a_gap_inherits_nothing() -> None:
    passes = Sets()
    passes.memory = SetMemory(began_at=0.0, inherited={NAME: LOST})
    passes.observe(make_found(reading=Silence("refused")))
    passes.observe(make_found(pod=None))
    broken = answer(2.0, is_streaming=False, timeline=None)
    passes.observe(make_found(pod=make_pod(uid="another"), reading=broken))
    assert passes.members[0].refused_seconds == 0


def test_what_was_inherited_is_kept_until_the_member_is_measured_or_gone() -> None:
    passes = Sets()
    passes.memory = SetMemory(began_at=0.0, inherited={NAME: Inherited(), "store-1-a": LOST, "store-2-a": Inherited()})
    silent, unasked = make_found(reading=Silence("refused")), make_found(1)
    assert passes.observe(silent, unasked).inherited == {NAME: Inherited(), "store-1-a": LOST}
    assert passes.observe(silent, unasked).inherited == {"store-1-a": LOST}
    assert passes.observe(silent, make_found(1, pod=make_pod(uid="another"))).inherited == {"store-1-a": LOST}
    assert passes.observe(silent, make_found(1, pod=None)).inherited == {}


def test_a_pod_that_was_recreated_is_not_what_another_process_left() -> None:
    passes = Sets()
    passes.memory = SetMemory(began_at=0.0, inherited={NAME: Inherited()})
    assert passes.observe(make_found(reading=Silence())).inherited == {NAME: Inherited()}
    assert passes.observe(make_found(pod=make_pod(uid="another"), reading=Silence())).inherited == {}
