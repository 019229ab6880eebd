"""The witness on real servers: what it says is what they are, and no age is ever too high."""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from e2e.invariants.facts import MemberFacts, NewRead, QueryCut, ServerFacts
from e2e.invariants.samples import Witness
from e2e.lab.waiting import wait_until
from tests.postgres_server import APPLICATION, DATABASE, MONITOR, REPOSITORY, Server, ServerMaker

GUARD, POD, SERVICE = ("shop", "store"), ("shop", "store-0-x"), ("shop", "store-read")
SLOT = "hr_aaaaaaaa_bbbbbbbb_0_x"


@dataclass
class Stand:
    """A primary, a replica that also stands for the read Service, and a witness of both."""

    primary: Server
    replica: Server
    witness: Witness = field(default_factory=lambda: Witness((sys.executable, str(REPOSITORY / "e2e/apps/witness.py"))))
    reads: list[NewRead] = field(default_factory=list)
    cuts: list[QueryCut] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    def aim(self, *, linger: float = 0.5, host: str = "127.0.0.1", to: Server | None = None) -> None:
        replica = {"host": host, "port": self.replica.port, "database": DATABASE, "primary": "/".join(GUARD)}
        primary = {"host": "127.0.0.1", "port": (to or self.primary).port, "database": DATABASE}
        logins = {"owner": {"user": "postgres", "password": ""}}
        for name, login in (("monitor", MONITOR), ("reader", APPLICATION)):
            logins[name] = {"user": login.username, "password": login.password}
        self.witness.aim(
            {
                "logins": logins,
                "linger": linger,
                "primaries": {"/".join(GUARD): primary},
                "members": {"/".join(POD): replica},
                "services": {"/".join(SERVICE): replica},
            }
        )

    def collect(self) -> bool:
        self.last = self.witness.samples.collect()
        self.reads += self.last["reads"]
        self.cuts += self.last["cuts"]
        return bool(self.last["servers"] and self.last["members"])

    def wait(self, what: str, look: Callable[[MemberFacts, ServerFacts], bool]) -> None:
        def is_so() -> bool:
            assert self.collect(), self.witness.samples.errors
            return look(self.member, self.server)

        wait_until(what, is_so, timeout=30, every=0.1)

    @property
    def server(self) -> ServerFacts:
        found: ServerFacts = self.last["servers"][GUARD]
        return found

    @property
    def member(self) -> MemberFacts:
        found: MemberFacts = self.last["members"][POD]
        return found


@pytest.fixture
def stand(servers: ServerMaker, primary: Server) -> Iterator[Stand]:
    replica = servers.make_replica(primary, slot=SLOT)
    stand = Stand(primary, replica)
    stand.aim()
    stand.wait("the counter on the replica", lambda member, _: member.staleness is not None)
    yield stand
    stand.witness.stop()


def test_a_healthy_pair_is_seen_as_such(stand: Stand) -> None:
    stand.wait("the member to stream", lambda member, _: member.is_streaming)
    server, member = stand.server, stand.member
    assert (server.is_primary, server.timeline, server.forks, server.synchronous) == (True, 1, {}, ())
    assert [(slot.name, slot.is_active) for slot in server.slots] == [(SLOT, True)]
    assert server.slot_wal_limit == 512 << 20
    assert (member.in_recovery, member.timeline, member.system_id) == (True, 1, server.system_id)
    assert member.position > 0
    assert member.sessions == ()
    wait_until("reads through the Service", lambda: stand.collect() and len(stand.reads) > 3, timeout=10)
    assert {read.address for read in stand.reads} == {"127.0.0.1"}
    assert max(read.staleness for read in stand.reads[-3:]) < 2.0
    assert stand.cuts == []


def test_the_witness_is_no_client_and_few_sessions(stand: Stand) -> None:
    sql = (
        "SELECT usename::text AS name, count(*)::int AS count FROM pg_stat_activity "
        "WHERE application_name LIKE 'headroom/witness/%%' GROUP BY 1"
    )
    assert stand.primary.sql(sql, []) == [{"name": "postgres", "count": 1}]
    assert stand.replica.sql(sql, []) == [{"name": MONITOR.username, "count": 1}]


def test_paused_replay_is_old_on_a_quiet_primary_and_never_older_than_it_is(stand: Stand) -> None:
    stand.replica.sql("SELECT pg_wal_replay_pause()")
    paused = time.monotonic()
    stand.reads.clear()
    [here] = stand.replica.sql("SELECT pg_last_wal_replay_lsn() - '0/0' AS bytes")
    stand.wait("two seconds of age", lambda member, _: (member.staleness or 0.0) > 2.0)
    wait_until("an old read", lambda: stand.collect() and stand.reads and stand.reads[-1].staleness > 2.0, timeout=10)
    assert stand.reads[-1].staleness <= time.monotonic() - paused
    assert (stand.member.staleness or 0.0) <= time.monotonic() - paused
    assert stand.member.position == here["bytes"], "what it only received is no position"
    stand.replica.sql("SELECT pg_wal_replay_resume()")
    stand.wait("the member to be current", lambda member, _: (member.staleness or 0.0) < 1.0)


def test_a_query_that_is_ended_is_a_cut(stand: Stand) -> None:
    stand.aim(linger=20)
    sleeping = "FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    wait_until("a long query", lambda: stand.replica.sql(f"SELECT pid {sleeping}"), timeout=10)
    time.sleep(2)
    stand.replica.sql(f"SELECT pg_terminate_backend(pid) {sleeping}")
    wait_until("the cut", lambda: stand.collect() and stand.cuts, timeout=10)
    assert stand.cuts[0].code == "57P01"
    # A lower bound: the witness counts from when its own turn came.
    assert stand.cuts[0].ran_for >= 0.5


def test_a_synchronous_member_is_seen_and_holds_the_witness_back_for_nothing(stand: Stand) -> None:
    stand.replica.freeze()
    stand.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    stand.primary.sql("SELECT pg_reload_conf()")
    name = f"replica-{stand.replica.port}"
    wait_until("it", lambda: stand.collect() and name in stand.server.synchronous, timeout=10)
    before = stand.server.seen_at
    stand.wait("more looks", lambda _, server: server.seen_at > before + 2)


def test_an_orphaned_slot_and_what_it_keeps_are_seen(stand: Stand) -> None:
    stand.primary.sql("SELECT pg_create_physical_replication_slot('hr_aaaaaaaa_bbbbbbbb_9_x', true)")
    stand.primary.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 3000000)), pg_switch_wal()")

    def keeps(_: MemberFacts, server: ServerFacts) -> bool:
        kept = {slot.name: slot for slot in server.slots}.get("hr_aaaaaaaa_bbbbbbbb_9_x")
        return kept is not None and not kept.is_active and (kept.kept_bytes or 0) > 3_000_000

    stand.wait("the slot", keeps)


def test_a_slot_that_was_given_up_as_idle_keeps_nothing(stand: Stand) -> None:
    if stand.primary.installation.major < 18:
        pytest.skip("idle_replication_slot_timeout came with PostgreSQL 18")
    name = "hr_aaaaaaaa_bbbbbbbb_9_x"
    stand.primary.sql("SELECT pg_create_physical_replication_slot(%s, true)", [name])
    stand.wait(
        "the slot", lambda _, server: any(slot.name == name and slot.kept_bytes is not None for slot in server.slots)
    )
    stand.primary.sql("ALTER SYSTEM SET idle_replication_slot_timeout = '1s'")
    stand.primary.sql("SELECT pg_reload_conf()")

    def is_lost() -> bool:
        stand.primary.sql("CHECKPOINT")
        query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND wal_status = 'lost'"
        return bool(stand.primary.sql(query, [name]))

    wait_until("the loss", is_lost, timeout=30)
    stand.wait("it", lambda _, server: any(slot.name == name and slot.kept_bytes is None for slot in server.slots))
    [other] = [slot for slot in stand.server.slots if slot.name == SLOT]
    assert other.kept_bytes is not None


def test_a_promoted_member_and_a_fork_are_seen(stand: Stand) -> None:
    stand.replica.sql("SELECT pg_promote()")
    stand.wait("the promotion", lambda member, _: not member.in_recovery)
    stand.aim(to=stand.replica)
    stand.wait("the new timeline", lambda _, server: server.timeline == 2)
    assert stand.server.is_primary
    assert stand.server.forks.keys() == {1}
    assert stand.member.timeline == 1, "what it received last"
    assert stand.server.forks[1] > 0


def test_a_frozen_primary_is_not_heard(stand: Stand) -> None:
    stand.primary.freeze()
    time.sleep(5)
    stand.collect()
    assert time.monotonic() - stand.server.seen_at > 3
    stand.primary.thaw()
    stand.wait("it to be heard again", lambda _, server: time.monotonic() - server.seen_at < 1)


def test_a_witness_that_dies_is_begun_again(stand: Stand) -> None:
    stand.witness.stop()
    time.sleep(2.1)
    stand.aim()
    died = time.monotonic()
    stand.wait("it to speak again", lambda member, _: member.seen_at > died)
