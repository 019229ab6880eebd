"""A real failover under write load: members before the fork follow the new primary, those past it never can."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.postgres.conninfo import SessionNames
from headroom.adapters.postgres.server import PsycopgPostgres
from headroom.errors import PrimaryUnavailable
from headroom.policy.databaseguard.identity import find_identity_mismatch
from headroom.policy.replicaset.memory import SetMemory
from headroom.reasons import Reason
from tests.integration.replicas.stage import (
    Name,
    OpenFence,
    Stage,
    eventually,
    follow,
    follows,
    is_streaming,
    make_member,
    positions,
)
from tests.postgres_server import REPLICATION, Server, ServerMaker, local_dialer

CRASHES = 10
"""A crash at the end of a record, or between what two members received, shows nothing."""
SEGMENT_BYTES = 2**20
"""Of the servers here. Where half a record ends with its segment, PostgreSQL may have to restart before it follows."""


@pytest.fixture
def stage(servers: ServerMaker) -> Iterator[Stage]:
    """The failover has just happened: the old primary crashed under load, the new one answers by the same names."""
    old = servers.make()
    old.sql("CREATE TABLE load (n int)")
    names = {name: Name(old.port) for name in ("new", "before", "past")}
    new = servers.make_replica(old)
    follow(new, names["new"])
    before = make_member(servers, old, names["before"], "hr_before")
    past = make_member(servers, old, names["past"], "hr_past")
    names_of_holder = SessionNames("lease", "one")
    stage = Stage(
        old,
        new,
        before,
        past,
        names,
        PsycopgPostgres(names_of_holder, OpenFence(), SystemClock(), dialer=local_dialer()),
    )
    writer = threading.Thread(target=stage.write, daemon=True)
    writer.start()
    try:
        for server in (new, before, past):
            eventually("all stream by their names", partial(is_streaming, server))
        for name in ("before", "new"):
            # The member is cut off first, so that it is behind the one that is promoted.
            names[name].lead_to(None)
            time.sleep(0.5)
        here = positions(new)
        eventually("the other member is past the fork", lambda: positions(past) > here + 2**16)
        old.stop(signal.SIGQUIT)
        new.sql("SELECT pg_promote()")
        for name in ("before", "past"):
            names[name].lead_to(new)
        yield stage
    finally:
        stage.stop_writing()
        writer.join(10)
        for each in names.values():
            each.close()


async def test_one_follows_and_the_other_leaves_the_service_and_never_comes_back(stage: Stage) -> None:
    for slot in ("hr_before", "hr_past"):
        stage.new.sql("SELECT pg_create_physical_replication_slot(%s, true)", [slot])
    decision = await stage.decide()
    [gone] = decision.plan.eject
    assert (gone.name, gone.reason) == ("past", Reason.TIMELINE_DIVERGED)
    assert not decision.plan.retire, "it leaves first"

    eventually("the one before the fork follows", lambda: follows(stage.before))
    followed = await stage.probe(stage.before)
    assert followed.timeline == 2

    # The new primary writes past all that the other one holds: its slot keeps that, and nothing but the fork tells.
    stage.new.sql("INSERT INTO load SELECT generate_series(1, 200000)")
    position, history, probes = await stage.read()
    assert position.lsn > positions(stage.past)
    assert history.find_end(1) is not None
    # It may seem to stream for a moment, up to the fork, again and again.
    assert 2 not in (probes["past"].timeline, probes["past"].wal_timeline)
    stage.before.wait_for_replay(stage.new)
    decision = await stage.decide()
    assert [entry.name for entry in decision.plan.eject] == ["past"]
    kept = decision.find("before").verdict
    assert (kept.is_failed, kept.is_due_for_replacement) == (False, False)


async def test_a_new_process_tells_the_two_apart_also_while_the_primary_is_away(stage: Stage) -> None:
    """Without a receiver nothing but its WAL tells on which timeline a member is."""
    stage.new.sql("SELECT pg_create_physical_replication_slot('hr_before', true)")
    eventually("the one before the fork follows", lambda: follows(stage.before))
    stage.new.sql("INSERT INTO load SELECT generate_series(1, 200000)")
    stage.before.wait_for_replay(stage.new)
    for name in ("before", "past"):
        stage.names[name].lead_to(None)
    eventually("no receiver is left", lambda: not is_streaming(stage.before))
    stage.memory = SetMemory()
    assert (await stage.probe(stage.before)).wal_timeline == 2
    decision = await stage.decide()
    assert [entry.name for entry in decision.plan.eject] == ["past"]


async def test_the_old_primary_that_comes_back_is_told_by_its_timeline(stage: Stage) -> None:
    stage.old.start()
    link = await stage.postgres.open_primary(stage.old.target(), is_observer=True)
    slots = await stage.postgres.open_slots(stage.old.target(), REPLICATION)
    try:
        position = await link.position()
        mismatch = find_identity_mismatch(
            position.system_identifier, position.timeline, pinned=position.system_identifier, highest_timeline=2
        )
        assert mismatch is not None
        assert mismatch.reason is Reason.PRIMARY_STALE
        with pytest.raises(PrimaryUnavailable):
            await slots.read_history(position.system_identifier, 2)
    finally:
        await link.close()
        await slots.close()


def read_ends(server: Server) -> tuple[int, int]:
    """How far a member received and replayed."""
    query = "SELECT pg_last_wal_receive_lsn() - '0/0' AS received, pg_last_wal_replay_lsn() - '0/0' AS replayed"
    [row] = server.sql(query)
    return int(row["received"]), int(row["replayed"])


def freeze(server: Server) -> list[int]:
    """Stop all that write, in the middle of what they do; their pids."""
    query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND query LIKE 'INSERT%'"
    pids = [int(row["pid"]) for row in server.sql(f"{query} AND pid <> pg_backend_pid()")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def load_pages(server: Server) -> None:
    """Large records, without end."""
    with contextlib.suppress(psycopg.Error), server.connect() as connection:
        while True:
            connection.execute("INSERT INTO load SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 5000) g")


def crash_under_load(servers: ServerMaker) -> tuple[Stage, bool]:
    """The old primary crashes while it writes and all receive; whether all end in the middle of one record."""
    old = servers.make()
    old.sql("CREATE TABLE load (n int, t text)")
    names = {name: Name(old.port) for name in ("new", "before", "past")}
    members = {name: servers.make_replica(old, settings={"cluster_name": name}) for name in names}
    for name, server in members.items():
        follow(server, names[name])
    for server in members.values():
        eventually("all stream by their names", partial(is_streaming, server))
    for _ in range(2):
        threading.Thread(target=load_pages, args=(old,), daemon=True).start()
    time.sleep(1.0)
    frozen = freeze(old)
    assert frozen
    time.sleep(1.0)
    old.stop(signal.SIGQUIT)
    eventually("no receiver is left", lambda: not any(map(is_streaming, members.values())))
    ends = {read_ends(server) for server in members.values()}
    postgres = PsycopgPostgres(SessionNames("lease", "one"), OpenFence(), SystemClock(), dialer=local_dialer())
    stage = Stage(old, members["new"], members["before"], members["past"], names, postgres)
    received, replayed = next(iter(ends))
    return stage, len(ends) == 1 and received > replayed and received % SEGMENT_BYTES != 0


async def test_a_crash_in_the_middle_of_a_record_condemns_nobody(servers: ServerMaker) -> None:
    """The new primary forks off before that record, of which the others hold the same half: all of them follow."""
    for _ in range(CRASHES):
        stage, is_torn = crash_under_load(servers)
        if is_torn:
            break
        for name in stage.names.values():
            name.close()
    assert is_torn, f"none of {CRASHES} crashes left half a record with all"
    try:
        stage.new.sql("SELECT pg_promote()")
        for slot in ("hr_before", "hr_past"):
            stage.new.sql("SELECT pg_create_physical_replication_slot(%s, true)", [slot])
        _, history, _ = await stage.read()
        end = history.find_end(1)
        assert end is not None
        assert all(server_ends[0] > end >= server_ends[1] for server_ends in map(read_ends, (stage.before, stage.past)))
        decision = await stage.decide()
        assert not decision.plan.eject
        assert not decision.plan.retire
        for name in ("before", "past"):
            stage.names[name].lead_to(stage.new)
        for server in (stage.before, stage.past):
            eventually("all follow", partial(follows, server))
            server.wait_for_replay(stage.new)
        decision = await stage.decide()
        assert not decision.plan.eject
        assert {each.facts.probe.timeline for each in decision.members if each.facts.probe is not None} == {2}
    finally:
        for name in stage.names.values():
            name.close()
