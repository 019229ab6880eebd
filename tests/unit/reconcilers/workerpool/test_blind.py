"""A pool whose queue cannot be read: the workers stay, the reason is said once, and it comes back by itself."""

import json
from dataclasses import replace
from typing import Any

import pytest

from headroom.adapters.postgres.queues.custom import MOST_AGE_SECONDS, MOST_ITEMS
from headroom.api.v1alpha1.common import GuardState
from headroom.api.v1alpha1.workerpool_status import WorkerPoolStatus
from headroom.errors import HeadroomError, InvalidSpec, PrimaryUnavailable, Refused, SignalUnavailable
from headroom.ports.kube import SECRET, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.workerpool import metrics
from tests.manifests import NAMESPACE, PRIMARY
from tests.memory_world import LATE
from tests.unit.reconcilers.stepped import GUARD_REF
from tests.unit.reconcilers.workerpool.world import GUARD, PoolWorld

CONNECTION = {
    "host": PRIMARY,
    "database": "store",
    "tls": {"mode": "disable"},
    "credentialsSecretRef": {"name": "jobs-login"},
}
CUSTOM: dict[str, Any] = {
    "type": "Postgres",
    "claims": "Exclusive",
    "postgres": {"custom": {"lagQuery": "SELECT 1", "backlogQuery": "SELECT 1"}, "connection": CONNECTION},
}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SignalUnavailable("no table", reason=Reason.QUEUE_NOT_FOUND), Reason.QUEUE_NOT_FOUND),
        (SignalUnavailable("no right", reason=Reason.MISSING_RIGHT), Reason.MISSING_RIGHT),
        (SignalUnavailable("two rows", reason=Reason.QUERY_MANY_ROWS), Reason.QUERY_MANY_ROWS),
        (SignalUnavailable("no row", reason=Reason.QUERY_NO_ROW), Reason.QUERY_NO_ROW),
        (SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT), Reason.QUERY_TIMEOUT),
        (PrimaryUnavailable("gone", reason=Reason.PRIMARY_UNREACHABLE), Reason.PRIMARY_UNREACHABLE),
        (Refused("no right", reason=Reason.MISSING_RIGHT), Reason.MISSING_RIGHT),
        (
            InvalidSpec("queue.postgres.preset", "river is not supported yet", "use x"),
            Reason.UNSUPPORTED_VALUE,
        ),
    ],
)
async def test_an_unknown_queue_holds_the_workers_and_comes_back(error: HeadroomError, reason: Reason) -> None:
    world = PoolWorld(replicas=5)
    await world.advance(20, rate=1)
    world.probes.error = error
    world.queue(**LATE)
    await world.advance(400)
    assert world.asked_for() == 5
    assert world.condition("SignalAvailable") == ("False", reason)
    assert world.message("SignalAvailable") == str(error)
    assert world.condition("KeepingUp") == ("Unknown", reason)
    assert world.condition("Ready") == ("False", reason)
    assert world.message("Ready") == f"the queue cannot be read now, and nothing is scaled until it can be: {error}"
    assert world.condition("ScalingLimited") == ("Unknown", Reason.STALE_SIGNAL)
    assert world.status()["lastDecision"]["limit"] == "StaleSignal"
    assert set(world.status()["queue"]) == {"measuredAt"}, "numbers that nobody measured are not shown"
    assert Reason.STALE_SIGNAL not in world.telemetry.reasons("mail")
    assert world.telemetry.reasons("mail").count(reason) == 1, "SignalAvailable says it once"
    failures = world.telemetry.value(metrics.PROBE_FAILURES, namespace=NAMESPACE, name="mail", reason=str(reason))
    assert failures is not None
    world.probes.error = None
    await world.make_pass()
    assert world.condition("SignalAvailable") == ("True", Reason.AS_EXPECTED)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert world.status()["queue"]["lagSeconds"] == 100.0
    assert world.asked_for() > 5


@pytest.mark.parametrize("mode", ["Active", "DryRun", "Paused"])
async def test_a_moment_without_an_answer_takes_no_ready_away_and_more_does_in_every_mode(mode: str) -> None:
    """Ready and the last decision do not speak of a queue that cannot be read while Ready is True."""
    world = PoolWorld(spec={"mode": mode})
    await world.advance(20, rate=1)
    calm, decision = world.condition("Ready"), world.status().get("lastDecision")
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.advance(6)
    assert world.condition("Ready") == calm
    assert "cannot be read" not in world.message("Ready")
    assert world.status().get("lastDecision") == decision
    assert world.condition("SignalAvailable") == ("False", Reason.QUERY_TIMEOUT)
    await world.advance(10)
    assert world.condition("Ready") == ("False", Reason.QUERY_TIMEOUT)
    world.probes.error = None
    await world.make_pass()
    assert world.condition("Ready")[0] == "True"
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.make_pass()
    assert world.condition("Ready") == calm, "the count begins again"


@pytest.mark.parametrize("state", list(GuardState))
async def test_a_slow_query_on_a_server_under_load_names_the_load_first(state: GuardState) -> None:
    """A missing index is not the first thing to look for on a server that suffers; other errors have one cause."""
    world = PoolWorld()
    await world.advance(10)
    view = world.servers.view(GUARD)
    assert view is not None
    world.stop_guards()
    world.servers.post(GUARD, replace(view, state=str(state)), world.servers.links(GUARD))
    for reason, message in ((Reason.QUERY_TIMEOUT, "run: CREATE INDEX"), (Reason.QUEUE_NOT_FOUND, "no table")):
        world.probes.error = SignalUnavailable(message, reason=reason)
        await world.make_pass()
        is_load = reason is Reason.QUERY_TIMEOUT and state not in (GuardState.HEALTHY, GuardState.UNKNOWN)
        said = f"the server may be overloaded, dbg/{GUARD[1]} is {state}; or else: " if is_load else ""
        assert world.message("SignalAvailable") == f"{said}{message}"


async def test_a_guard_gets_some_seconds_before_it_is_said_aloud() -> None:
    world = PoolWorld()
    world.lose_guard()
    await world.make_pass()
    assert world.condition("Ready") == ("False", Reason.GUARD_NOT_READY)
    assert world.condition("SignalAvailable") == ("Unknown", Reason.GUARD_NOT_READY)
    await world.advance(5)
    assert world.telemetry.reasons("mail") == []
    await world.advance(10)
    assert world.condition("SignalAvailable") == ("False", Reason.GUARD_NOT_READY)
    assert world.telemetry.reasons("mail") == [Reason.GUARD_NOT_READY]
    world.has_guard_passes = True
    await world.advance(5)
    assert world.condition("Ready")[0] == "True"


async def test_a_new_process_keeps_a_ready_pool_ready_until_its_guard_was_observed() -> None:
    world = PoolWorld()
    await world.advance(20, rate=1)
    before = world.status()["conditions"]
    world.restart()
    world.lose_guard()
    await world.make_pass()
    assert world.status()["conditions"] == before, "nothing flips and comes back"
    await world.advance(15)
    assert world.condition("Ready") == ("False", Reason.GUARD_NOT_READY)


async def test_a_blind_pool_has_no_figures_of_its_queue_and_keeps_those_of_its_workers() -> None:
    labels = {"namespace": NAMESPACE, "name": "mail"}
    world = PoolWorld(replicas=5)
    await world.advance(60, rate=4)
    assert all(world.telemetry.value(metric, **labels) is not None for metric in metrics.OF_QUEUE)
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.advance(10)
    assert [metric.name for metric in metrics.OF_QUEUE if world.telemetry.value(metric, **labels) is not None] == []
    assert world.telemetry.value(metrics.SIGNAL, **labels) == 0
    for state in ("present", "allowed", "ready"):
        assert world.telemetry.value(metrics.WORKERS, state=state, **labels) == world.asked_for()
    probes = world.telemetry.observations[metrics.PROBE_SECONDS.name, tuple(sorted(labels.items()))]
    assert len(probes) >= 14, "counts go on"
    world.probes.error = None
    await world.advance(10, rate=4)
    assert all(world.telemetry.value(metric, **labels) is not None for metric in metrics.OF_QUEUE)


async def test_a_number_the_source_stops_telling_is_gone() -> None:
    world = PoolWorld()
    await world.advance(20, rate=1)
    assert world.telemetry.value(metrics.IN_FLIGHT, namespace=NAMESPACE, name="mail") is not None
    world.queue(in_flight=None)
    await world.make_pass()
    assert world.telemetry.value(metrics.IN_FLIGHT, namespace=NAMESPACE, name="mail") is None
    assert world.telemetry.value(metrics.BACKLOG, namespace=NAMESPACE, name="mail") is not None


async def test_a_passing_fault_before_the_first_answer_is_not_ready() -> None:
    world = PoolWorld()
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.make_pass()
    assert world.condition("Ready") == ("False", Reason.QUERY_TIMEOUT)


async def test_without_a_sample_even_the_bounds_wait() -> None:
    world = PoolWorld(replicas=0, spec={"minWorkers": 3})
    world.probes.error = SignalUnavailable("slow", reason=Reason.QUERY_TIMEOUT)
    await world.advance(20)
    assert world.asked_for() == 0
    world.probes.error = None
    await world.make_pass()
    assert world.asked_for() == 3


async def test_a_guard_that_is_not_there_or_not_ready_is_named() -> None:
    world = PoolWorld()
    world.primary.is_down = True
    await world.advance(15)
    assert world.condition("SignalAvailable") == ("False", Reason.GUARD_NOT_READY)
    said = "dbg/store cannot use its server: store-primary.shop.svc:5432: connection refused"
    assert said in world.message("SignalAvailable")
    world.cluster.delete(GUARD_REF)
    await world.advance(15)
    assert world.condition("Ready") == ("False", Reason.GUARD_NOT_FOUND)
    assert "create it or correct spec.databaseRef" in world.message("Ready")
    world.primary.is_down = False
    world.add_guard()
    await world.advance(15)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)


async def test_a_queue_with_its_own_login_names_what_its_secret_lacks() -> None:
    world = PoolWorld(spec={"queue": CUSTOM})
    await world.make_pass()
    assert world.condition("Ready") == ("False", Reason.SECRET_NOT_FOUND)
    assert "create it in namespace shop" in world.message("Ready")
    world.set_secret("jobs-login", username="jobs", password="wrong")
    await world.advance(6)
    assert world.condition("Ready") == ("False", Reason.PASSWORD_REJECTED)
    opened = world.postgres.opened.count("queue")
    await world.advance(20)
    assert world.postgres.opened.count("queue") <= opened + 3, "a wrong password is not tried every five seconds"
    world.set_secret("jobs-login", username="jobs", password="j")
    await world.advance(15)
    assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
    assert len(world.probes.opened) == 1
    await world.advance(60)
    assert len(world.probes.opened) == 1, "one link and one probe for as long as nothing changes"


async def test_without_a_login_for_queues_the_command_is_named_and_the_workers_stay() -> None:
    """As after an upgrade: the guard's own login reads no table, whatever its rights are."""
    world = PoolWorld(replicas=5)
    await world.advance(20, rate=1)
    login = world.read(GUARD_REF)["spec"]["connection"]["queueSecretRef"]
    world.cluster.edit(GUARD_REF, lambda guard: guard["spec"]["connection"].pop("queueSecretRef"))
    await world.advance(5)
    world.queue(**LATE)
    await world.advance(100)
    assert world.condition("SignalAvailable") == ("False", Reason.QUEUE_LOGIN_MISSING)
    message = world.message("SignalAvailable")
    command = f"kubectl patch dbg/store -n {NAMESPACE} --type merge --patch '"
    assert command in message
    patch = json.loads(message.partition(command)[2].rstrip("'"))
    assert world.asked_for() == 5
    world.cluster.edit(GUARD_REF, lambda guard: guard["spec"]["connection"].update(patch["spec"]["connection"]))
    await world.advance(100)
    assert patch["spec"]["connection"]["queueSecretRef"] == login
    assert world.condition("SignalAvailable")[0] == "True", "the command is all that is needed"


async def test_a_secret_for_queues_that_is_missing_stops_the_pool_and_not_the_guard() -> None:
    world = PoolWorld(replicas=5)
    await world.advance(20, rate=1)
    world.cluster.remove(ObjectRef(SECRET, NAMESPACE, "store-queue"))
    await world.advance(100)
    assert world.condition("SignalAvailable") == ("False", Reason.SECRET_NOT_FOUND)
    assert "spec.connection.queueSecretRef" in world.message("SignalAvailable")
    assert world.find_condition(GUARD_REF, "Ready")["status"] == "True"
    world.set_secret("store-queue", username="queue", password="queue-password")
    await world.advance(20)
    assert world.condition("SignalAvailable")[0] == "True"


@pytest.mark.parametrize("reason", [Reason.QUERY_NOT_A_NUMBER, Reason.QUERY_NO_ROW])
async def test_one_odd_answer_of_many_leaves_the_pool_ready(reason: Reason) -> None:
    """What a query answers depends on the rows of the moment; the next answer may be right."""
    world = PoolWorld(replicas=3)
    await world.advance(60, rate=1)
    for _ in range(4):
        world.probes.error = SignalUnavailable("returned -1", reason=reason)
        await world.advance(5, rate=1)
        world.probes.error = None
        assert world.condition("Ready") == ("True", Reason.AS_EXPECTED)
        await world.advance(30, rate=1)


async def test_an_age_far_below_zero_is_named_with_its_causes() -> None:
    world = PoolWorld()
    world.queue(backlog=4, early_seconds=298.7)
    await world.advance(15)
    assert world.condition("SignalAvailable") == ("True", Reason.NEGATIVE_AGE)
    assert world.message("SignalAvailable") == (
        "lagQuery returned an age of -300 s, which counts as 0: let the database's clock write when an item is made "
        "(DEFAULT now()), and leave out items that are due later"
    )


async def test_the_largest_numbers_that_are_read_can_be_written_into_a_status() -> None:
    world = PoolWorld()
    world.queue(backlog=MOST_ITEMS, in_flight=MOST_ITEMS, late=MOST_ITEMS, lag_seconds=MOST_AGE_SECONDS)
    await world.advance(30)
    shown = world.status()["queue"]
    assert shown["backlog"] == shown["inFlight"] == MOST_ITEMS < 2**63
    WorkerPoolStatus.model_validate(world.status())
