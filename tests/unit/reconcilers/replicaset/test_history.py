"""What a row of looks tells: a broken stream is counted only while it is seen broken and nothing moves."""

from datetime import UTC, datetime, timedelta

from headroom.model.database import SlotFacts
from headroom.model.lsn import Lsn
from headroom.model.replica import ContainerFacts, Lag, PodFacts, Role
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.history import count_restarts, measure_idle, note_histories
from headroom.reconcilers.replicaset.memory import MemberMemory, SetMemory
from tests.unit.policy.replicaset.make import make_pod, make_probe

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOWN = Lag(refusal=Reason.NOT_STREAMING)


class Looks:
    """Looks at one member, a second apart unless told."""

    def __init__(self) -> None:
        self.memory, self.at = SetMemory(), 100.0
        self.known = MemberMemory("u", seen_since=0.0)
        self.memory.members["store-0-a"] = self.known

    def look(
        self, lag: Lag | None = DOWN, *, lsn: int = 500, count: int = 1, step: float = 1.0, silent: int = 0
    ) -> float:
        for _ in range(count):
            self.known.lag, self.known.unanswered = lag, silent
            self.known.probe = make_probe(receive_lsn=Lsn(lsn), replay_lsn=Lsn(lsn))
            note_histories(self.memory, (), (), at=self.at, now=NOW)
            self.at += step
        return self.known.broken_seconds


def test_seconds_of_a_broken_stream_add_up() -> None:
    assert Looks().look(count=31) == 30


def test_a_flash_of_a_connection_changes_nothing_and_a_stream_that_lasts_ends_it() -> None:
    looks = Looks()
    looks.look(count=31)
    looks.look(Lag(90.0, 10**9), step=0.5)
    assert looks.look() == 30.5
    looks.look(Lag(0.1, 0), count=6)
    assert looks.look() == 1


def test_replay_of_what_is_there_begins_it_anew() -> None:
    looks = Looks()
    looks.look(count=31)
    assert looks.look(lsn=501) == 0
    assert looks.look(lsn=501, count=5) == 5


def test_while_the_primary_does_not_answer_nobody_is_blamed() -> None:
    looks = Looks()
    looks.look(count=31)
    assert looks.look(Lag(message="the primary last answered 9 s ago")) == 0


def test_silence_and_what_was_not_watched_are_not_counted() -> None:
    looks = Looks()
    looks.look(count=31)
    assert looks.look(None, silent=3, count=500) == 30
    assert looks.look(step=3600) == 31
    assert looks.look() == 41


def pod(restarts: int, *, is_ready: bool = False, ran: timedelta = timedelta()) -> PodFacts:
    server = ContainerFacts(is_running=is_ready, restarts=restarts, started_at=NOW - ran)
    return make_pod(Role.STANDBY, is_ready=is_ready, server=server)


def restarts_after(*looks: PodFacts) -> int:
    memory = SetMemory()
    for look in looks:
        note_histories(memory, [look], (), at=0.0, now=NOW)
    return count_restarts(memory, looks[-1])


def test_restarts_count_since_the_server_last_ran_in_peace() -> None:
    assert restarts_after(pod(0), pod(6)) == 6
    assert restarts_after(pod(0), pod(5), pod(5, is_ready=True, ran=timedelta(hours=1)), pod(6)) == 1
    assert restarts_after(pod(0), pod(5), pod(5, is_ready=True, ran=timedelta(minutes=1)), pod(6)) == 6


def test_a_new_process_holds_no_old_restarts_against_a_member() -> None:
    assert restarts_after(pod(40)) == 0
    assert restarts_after(pod(40), pod(46)) == 6


def test_restarts_of_a_pod_that_is_gone_are_forgotten() -> None:
    memory = SetMemory()
    note_histories(memory, [pod(3)], (), at=0.0, now=NOW)
    note_histories(memory, (), (), at=1.0, now=NOW)
    assert memory.peaceful_restarts == {}


def test_an_idle_slot_is_timed_by_the_server_or_else_by_us() -> None:
    memory = SetMemory()
    idle = SlotFacts("s", False, Lsn(1), "reserved", True)
    note_histories(memory, (), [idle], at=50.0, now=NOW)
    note_histories(memory, (), [idle], at=60.0, now=NOW)
    assert measure_idle(memory.idle_slots, idle, 60.0) == 10
    assert measure_idle(memory.idle_slots, SlotFacts("s", False, Lsn(1), "reserved", True, 400.0), 60.0) == 400
    used = SlotFacts("s", True, Lsn(1), "reserved", True)
    assert measure_idle(memory.idle_slots, used, 60.0) == 0
    note_histories(memory, (), [used], at=70.0, now=NOW)
    assert memory.idle_slots == {}
