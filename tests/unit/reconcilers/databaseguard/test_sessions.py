"""Guards of one server: one measures, each concludes for itself, and the next one goes on when it is gone."""

import asyncio
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemoryServer, MemorySession
from headroom.errors import PrimaryUnavailable
from headroom.ports.kube import ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard import metrics
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.databaseguard.neighbours import (
    BOTH,
    FIRST,
    OTHER,
    SECOND,
    WAITERS,
    add_foreign,
    add_second,
    twin_of,
)
from tests.unit.reconcilers.databaseguard.world import GuardWorld, make_guard


async def test_each_names_the_other_and_equal_specs_give_one_state_and_one_budget(world: GuardWorld) -> None:
    add_second(world, connections={"workerSharePercent": 30, "reserve": 17})
    await world.run_all(8, *BOTH)
    assert world.ready_of("store") == ("True", "SharedInstance")
    assert world.ready_of("second") == ("True", "SharedInstance")
    assert "dbg/second" in world.condition()["message"]
    assert "dbg/store" in world.condition(name="second")["message"]
    for status in (world.status_of("store"), world.status_of("second")):
        assert status["connections"] == {"used": 0, "usable": 80, "budget": 24}, "smallest share, largest reserve"
    world.primary.commit_seconds = 2
    await world.run_all(30, *BOTH)
    one, other = world.status_of("store"), world.status_of("second")
    assert one["state"] == other["state"] == "Overloaded"
    assert one["stateSince"] == other["stateSince"]
    assert one["stateSignal"] == other["stateSignal"] == "commitLatency"


async def test_the_server_is_asked_once_a_second_and_has_one_canary(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(5, *BOTH)
    lsn, before = world.primary.lsn, dict(world.primary.questions)
    await world.run_all(60, *BOTH)
    assert world.primary.lsn - lsn <= 61 * 128, "one commit a second"
    assert world.primary.questions["connections"] - before["connections"] <= 61
    assert world.primary.questions["identify"] - before["identify"] <= 61 + 7, "the other one looks every ten seconds"
    assert world.postgres.take_overs == 1
    assert world.view_of("second").marks[-1] == world.view.marks[-1]


async def test_each_acts_through_its_own_login(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(5, *BOTH)
    one, other = (world.view_of(name).target for name in ("store", "second"))
    assert one is not None
    assert other is not None
    assert (one.credentials.username, other.credentials.username) == ("monitor", "second_monitor")
    own, others = world.servers.links(FIRST), world.servers.links(SECOND)
    assert own is not None
    assert others is not None
    assert own.primary is not others.primary
    assert others.slots is None, "it names no replication login"


async def test_rights_are_those_of_each_login(world: GuardWorld) -> None:
    add_second(world)
    world.primary.roles["second_monitor"].rights -= {"pg_monitor"}
    await world.run_all(5, *BOTH)
    assert world.ready_of("second") == ("True", "MissingRight")
    assert 'TO "second_monitor"' in world.condition(name="second")["message"]
    assert world.ready_of("store") == ("True", "SharedInstance")
    assert world.condition("SignalAvailable", "second")["status"] == "True", "the other one sees the sessions"
    assert world.status_of("second")["lockWaiters"] == 0


async def test_when_the_login_that_measures_fails_the_next_guard_goes_on_without_a_gap(world: GuardWorld) -> None:
    add_second(world)
    world.primary.commit_seconds = 2
    await world.run_all(20, *BOTH)
    since, marks = world.status_of("second")["stateSince"], len(world.view_of("second").marks)
    assert world.status_of("second")["state"] == "Overloaded"
    world.remove_secret("store-monitor")
    await world.run_all(63, *BOTH)
    assert world.ready_of("store") == ("False", "SecretNotFound")
    assert world.ready_of("second") == ("True", "Connected")
    status = world.status_of("second")
    assert (status["state"], status["stateSince"]) == ("Overloaded", since)
    assert len(world.view_of("second").marks) > marks, "the canary goes on"
    changes = [event.message for event in world.telemetry.events if event.name == "second"]
    assert not [message for message in changes if "Overloaded ->" in message]
    assert world.postgres.take_overs == 2


async def test_a_guard_that_comes_back_judges_for_itself_and_changes_nobodys_state(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(10, *BOTH)
    world.set_secret("store-monitor", username="monitor", password="wrong")
    await world.run_all(63, *BOTH)
    assert world.ready_of("store") == ("False", "PasswordRejected")
    world.primary.commit_seconds = 2
    await world.run_all(20, *BOTH)
    assert world.status_of("second")["state"] == "Overloaded"
    since = world.status_of("second")["stateSince"]
    world.set_secret("store-monitor", username="monitor", password="monitor-password")
    await world.run_all(15, *BOTH)
    assert world.ready_of("store")[0] == "True"
    assert world.status_of("store")["state"] == world.status_of("second")["state"] == "Overloaded"
    assert world.status_of("second")["stateSince"] == since


async def test_a_guard_whose_passes_hang_is_taken_over(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(10, *BOTH)
    await world.run_all(12, SECOND)  # the first makes no pass
    assert world.ready_of("second")[0] == "True"
    assert world.view_of("second").marks[-1].taken_at > world.clock.monotonic() - 3
    assert world.postgres.take_overs == 2
    await world.run_all(5, *BOTH)
    assert world.postgres.take_overs == 2, "the first still has what it opened"
    assert world.view.marks[-1] == world.view_of("second").marks[-1]


async def test_a_guard_that_comes_back_after_a_hang_overwrites_nothing(world: GuardWorld) -> None:
    add_second(world, thresholds=WAITERS)
    world.edit_spec(lambda spec: spec.update(thresholds=WAITERS))
    await world.run_all(10, *BOTH)
    world.primary.lock_waiters = 5
    await world.run_all(25, SECOND)  # the first makes no pass
    assert world.status_of("second")["state"] == "Overloaded"
    since, told = world.status_of("second")["stateSince"], len(world.telemetry.events)
    await world.run_all(1, *BOTH)
    assert world.status_of("store")["state"] == "Overloaded", "it takes in what was observed meanwhile"
    await world.run_all(40, *BOTH)
    assert world.status_of("second")["state"] == "Overloaded"
    assert world.status_of("second")["stateSince"] == since
    assert not [event.message for event in world.telemetry.events[told:] if event.name == "second"]


async def test_a_guard_that_is_deleted_leaves_the_other_alone(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(10, *BOTH)
    await world.reconciler.forget(world.body()["metadata"]["uid"])
    await world.run_all(5, SECOND)
    assert world.ready_of("second") == ("True", "Connected")
    assert world.servers.view(FIRST) is None
    assert world.primary.lock_holder is not None


async def test_a_server_that_goes_down_is_down_for_all_and_comes_back_for_all(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(10, *BOTH)
    world.primary.is_down = True
    world.primary.restart()
    await world.run_all(13, *BOTH)
    assert world.ready_of("store") == world.ready_of("second") == ("False", "PrimaryUnreachable")
    world.primary.is_down = False
    await world.run_all(12, *BOTH)
    assert world.ready_of("store") == world.ready_of("second") == ("True", "SharedInstance"), "re-keyed by its start"


async def test_a_clone_with_the_same_identifier_is_another_server(world: GuardWorld) -> None:
    clone = MemoryServer("clone.shop.svc", roles=world.primary.roles, system_identifier=world.primary.system_identifier)
    world.postgres.add(clone)
    clone.sessions = [MemorySession(state="active") for _ in range(80)]
    world.cluster.seed(make_guard("second", connection={"host": "clone"}))
    await world.run_all(14, *BOTH)
    assert world.ready_of("store") == world.ready_of("second") == ("True", "Connected")
    assert world.status_of("store")["state"] == "Healthy"
    assert world.status_of("second")["state"] == "Overloaded"
    assert world.status_of("store")["systemIdentifier"] == world.status_of("second")["systemIdentifier"]


async def test_guards_of_two_namespaces_share_a_server_they_reached_at_one_address(world: GuardWorld) -> None:
    add_foreign(world)
    await world.run_all(8, FIRST, OTHER)
    assert world.ready_of("store") == ("True", "SharedInstance")
    assert world.ready_of("theirs", "other") == ("True", "SharedInstance")
    assert "a guard of another namespace watches the same server" in world.condition()["message"]
    assert "theirs" not in world.condition()["message"], "names of other namespaces are not for readers of this one"
    assert world.postgres.take_overs == 1


async def test_a_server_that_only_claims_to_be_ours_changes_nothing_for_us(world: GuardWorld) -> None:
    liar = twin_of(world.primary, "liar.example.com")
    liar.commit_seconds, liar.settings["max_connections"] = 9.0, "4"
    add_foreign(world, liar)
    await world.run_all(20, FIRST, OTHER)
    assert world.ready_of("store") == ("True", "Connected")
    assert world.ready_of("theirs", "other") == ("True", "Connected")
    assert world.status_of("store")["state"] == "Healthy"
    assert world.status_of("store")["connections"]["budget"] == 55
    assert world.postgres.take_overs == 2


async def test_within_a_namespace_the_identity_is_enough(world: GuardWorld) -> None:
    twin = twin_of(world.primary, "store-alias.shop.svc")
    twin.settings.update(world.primary.settings)
    world.postgres.add(twin)
    world.cluster.seed(make_guard("second", connection={"host": "store-alias"}))
    await world.run_all(8, *BOTH)
    assert world.ready_of("second") == ("True", "SharedInstance")


async def test_a_neighbours_alias_does_not_carry_a_claim_to_another_namespace(world: GuardWorld) -> None:
    """The foreign guard reached our address. A neighbour of ours trusts an alias; the foreign one does not."""
    world.postgres.add(twin_of(world.primary, "store-alias.shop.svc"))
    world.cluster.seed(make_guard("second", connection={"host": "store-alias"}))
    await world.run_all(4, *BOTH)
    add_foreign(world)
    await world.run_all(8, FIRST, SECOND, OTHER)
    assert world.ready_of("theirs", "other") == ("True", "Connected")
    assert "another namespace" not in world.condition()["message"]


async def test_a_session_asks_for_slots_over_the_link_that_measures(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(5, *BOTH)
    assert await world.servers.read_slots(SECOND) is await world.servers.read_slots(FIRST)
    links = world.servers.links(SECOND)
    assert links is not None
    await links.primary.close()
    assert (await world.servers.read_position(SECOND)).lsn > 0, "its own link is not what is asked"
    with pytest.raises(PrimaryUnavailable):
        await links.primary.identify()


async def test_the_first_pass_of_a_second_guard_waits_for_the_one_that_measures(world: GuardWorld) -> None:
    add_second(world)
    await world.run(3)
    await world.step("second")
    assert world.ready_of("second") == ("True", "SharedInstance"), "it takes over what is known at once"
    assert Reason.IN_PROGRESS not in world.telemetry.reasons("second")


async def test_commits_are_in_the_metrics_of_each_guard(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(30, *BOTH)
    name = metrics.COMMIT_SECONDS.name
    counts = {
        guard: len(world.telemetry.observations[name, (("name", guard), ("namespace", NAMESPACE))])
        for guard in ("store", "second")
    }
    assert counts["store"] >= 29
    assert abs(counts["store"] - counts["second"]) <= 2


async def test_what_nobody_measures_any_more_is_not_taken_for_the_present(world: GuardWorld) -> None:
    add_second(world)
    await world.run_all(10, *BOTH)
    links = world.links
    assert links is not None
    world.primary.lock_holder = "another process"
    await world.run_all(4, *BOTH)
    assert world.ready_of("store") == ("False", "InProgress")
    await world.run_all(6, *BOTH)
    assert world.ready_of("second") == ("False", "InProgress")
    world.primary.lock_holder = None
    await world.run_all(4, *BOTH)
    assert world.ready_of("second")[0] == world.ready_of("store")[0] == "True"


async def test_a_host_name_that_leads_to_a_clone_takes_canary_and_lock_along(world: GuardWorld) -> None:
    await world.run(5)
    clone = MemoryServer(
        world.primary.host, roles=world.primary.roles, system_identifier=world.primary.system_identifier
    )
    world.postgres.servers[world.primary.address] = clone
    await world.run(5)
    assert world.postgres.take_overs == 2
    assert clone.lock_holder is not None
    assert world.ready[0] == "True"


async def test_an_older_guard_that_may_not_see_sessions_blinds_nobody(world: GuardWorld) -> None:
    world.primary.roles["monitor"].rights -= {"pg_monitor"}
    add_second(world, thresholds=WAITERS)
    await world.run_all(10, *BOTH)
    world.primary.lock_waiters = 40
    await world.run_all(20, *BOTH)
    assert world.status_of("second")["state"] == "Overloaded"
    assert world.status_of("store")["state"] == "Overloaded", "by the thresholds of its own spec, with what is seen"
    assert world.ready_of("store") == ("True", "MissingRight")
    assert world.condition("SignalAvailable")["status"] == "True"


async def test_an_older_guard_without_a_canary_blinds_nobody(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec.update(canary={"enabled": False}))
    add_second(world)
    await world.run_all(10, *BOTH)
    world.primary.commit_seconds = 3.0
    await world.run_all(30, *BOTH)
    assert world.status_of("second")["state"] == "Overloaded"
    assert world.status_of("store")["state"] == "Healthy", "it wants no canary"
    assert world.condition("SignalAvailable")["reason"] == "CanaryDisabled"
    name = metrics.COMMIT_SECONDS.name
    assert (name, (("name", "store"), ("namespace", NAMESPACE))) not in world.telemetry.observations


async def test_two_guards_that_see_different_things_measure_each_for_itself(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec.update(canary={"enabled": False}, thresholds=WAITERS))
    add_second(world)
    world.primary.roles["second_monitor"].rights -= {"pg_monitor"}
    await world.run_all(10, *BOTH)
    world.primary.lock_waiters, world.primary.commit_seconds = 6, 6.0
    await world.run_all(30, *BOTH)
    assert world.status_of("store")["state"] == "Overloaded"
    assert world.status_of("second")["state"] == "Emergency"
    assert world.postgres.take_overs == 2


async def test_the_canary_runs_at_the_shortest_interval_that_a_guard_asks_for(world: GuardWorld) -> None:
    world.edit_spec(lambda spec: spec.update(canary={"interval": "1m"}))
    add_second(world)
    await world.run_all(10, *BOTH)
    assert len(world.view_of("second").marks) >= 8
    assert world.condition("SignalAvailable", "second")["status"] == "True"


async def test_a_guard_that_is_removed_while_it_connects_leaves_nothing_behind(world: GuardWorld) -> None:
    gate, read = asyncio.Event(), world.kube.get

    async def wait_at_the_gate(secret: ObjectRef) -> Any:
        await gate.wait()
        return await read(secret)

    world.kube.get = wait_at_the_gate
    task = asyncio.create_task(world.reconciler.reconcile(world.body()))
    await world.clock.advance(1)
    await world.reconciler.forget(world.body()["metadata"]["uid"])
    gate.set()
    await world.clock.advance(1)
    await task
    assert world.servers.view(FIRST) is None
    assert world.servers.sessions.find_present(FIRST) is None
    assert world.primary.lock_holder is None
    lsn = world.primary.lsn
    await world.clock.advance(5)
    assert world.primary.lsn == lsn, "no canary runs on"


async def test_the_guards_of_one_other_namespace_have_one_vote(world: GuardWorld) -> None:
    others = [("elsewhere", f"wiki-{number}") for number in range(8)]
    calm = [("third", "mail"), ("fourth", "bills")]
    servers = [add_server(world, name, 8 + number, space) for number, (space, name) in enumerate((*others, *calm))]
    for space in {space for space, _ in (*others, *calm)}:
        world.set_secret("store-monitor", space, username="monitor", password="monitor-password")
    await world.run_all(20, FIRST, *others, *calm)
    assert {world.status_of(name, space)["state"] for space, name in (*others, *calm)} == {"Healthy"}
    for server in (world.primary, *servers[: len(others)]):
        server.commit_seconds = 2
    await world.run_all(40, FIRST, *others, *calm)
    assert world.status["state"] == "Overloaded", "one namespace of three turned, whatever number of servers it has"


async def test_servers_that_become_slow_together_point_to_the_operator_and_hold_their_states(world: GuardWorld) -> None:
    guards = [FIRST, (NAMESPACE, "mail"), (NAMESPACE, "bills")]
    servers = [world.primary, *[add_server(world, name, number) for number, (_, name) in enumerate(guards[1:], 8)]]
    await world.run_all(20, *guards)
    for server in servers:
        server.commit_seconds = 2
    await world.run_all(40, *guards)
    for _, name in guards:
        assert world.status_of(name)["state"] == "Healthy"
        signal = world.condition("SignalAvailable", name)
        assert (signal["status"], signal["reason"]) == ("False", Reason.SUSPECT_OPERATOR)
        assert "most servers of this operator became slow at the same moment" in signal["message"]
    await world.run_all(60, *guards)
    for _, name in guards:
        assert world.status_of(name)["state"] == "Overloaded", "what lasts is believed"
        assert world.condition("SignalAvailable", name)["status"] == "True"


async def test_three_guards_of_one_server_that_turn_are_one_server(world: GuardWorld) -> None:
    """With a second server there are two, and two may turn by chance."""
    add_second(world)
    add_foreign(world)
    mail = add_server(world, "mail", 8)
    guards = (*BOTH, OTHER, (NAMESPACE, "mail"))
    await world.run_all(10, *guards)
    world.primary.commit_seconds = mail.commit_seconds = 2
    await world.run_all(25, *guards)
    for name in ("store", "second", "mail"):
        assert world.status_of(name)["state"] == "Overloaded"
        assert world.condition("SignalAvailable", name)["status"] == "True"


def add_server(world: GuardWorld, name: str, number: int, namespace: str = NAMESPACE) -> MemoryServer:
    """Another server with a guard of that name."""
    server = MemoryServer(
        f"10.0.0.{number}", roles=world.primary.roles, system_identifier=f"730000000000000000{number}"
    )
    world.postgres.servers[f"{name}.{namespace}.svc", 5432] = server
    world.cluster.seed(make_guard(name, namespace=namespace, connection={"host": name, "replicationSecretRef": None}))
    return server
