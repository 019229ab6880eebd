"""Into the Service without waiting for it: passes stay short, late members give way, recalled ones lose nobody."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from headroom.adapters.inmemory.postgres_server import MemorySession
from headroom.errors import Conflict, KubeUnavailable
from headroom.model.replica import ROLE_LABEL
from headroom.ports.kube import ENDPOINT_SLICE, POD, Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import World


def pod_of(name: str) -> ObjectRef:
    return ObjectRef(POD, NAMESPACE, name)


async def calm(**spec: Any) -> World:
    world = World()
    world.add_set(**spec)
    await world.run(30)
    world.telemetry.events.clear()
    return world


async def test_no_pass_waits_for_the_endpoint_slices() -> None:
    world = await calm(replicas=1, standbys=1)
    world.members.lists = False
    world.edit_spec(replicas=2)
    world.kube.calls.clear()
    before = world.clock.monotonic()
    await world.one_pass()
    assert world.clock.monotonic() - before < 0.2
    assert len(world.serving()) == 2
    assert not [ref for verb, ref in world.kube.calls if verb == "list" and ref.kind == ENDPOINT_SLICE]


async def test_a_replica_is_ejected_while_another_is_on_its_way_into_the_service() -> None:
    world = await calm(replicas=3, standbys=1)
    world.members.lists = False
    world.edit_spec(replicas=4)
    await world.run(1)
    promoted = world.serving()[0]
    world.replica(promoted).promote()
    await world.one_pass()
    assert promoted not in world.serving()


async def test_an_activation_is_reported_with_its_time_once_the_service_lists_it() -> None:
    world = await calm(replicas=1, standbys=1)
    world.members.lists = False
    world.edit_spec(replicas=2)
    await world.run(2)
    assert Reason.ACTIVATED not in world.telemetry.reasons("store")
    assert "leadTime" in world.status
    world.members.lists = True
    await world.run(2)
    [event] = [event for event in world.telemetry.events if event.reason is Reason.ACTIVATED]
    assert "serves reads, confirmed 2." in event.message
    await world.run(3)
    assert world.telemetry.reasons("store").count(Reason.ACTIVATED) == 1


async def test_a_member_that_the_service_does_not_list_in_time_gives_its_place_to_the_next_and_rests() -> None:
    world = await calm(replicas=1, standbys=2)
    world.members.lists = False
    world.edit_spec(replicas=2, standbys=1)
    await world.run(1)
    first = set(world.serving())
    await world.run(5)
    assert len(world.serving()) == 2
    second = set(world.serving())
    assert len(first & second) == 1, "another has the place"
    await world.run(8)
    assert set(world.serving()) == second, "the first one rests, and there is no third one"
    late = [event.message for event in world.telemetry.events if event.reason is Reason.NOT_IN_SERVICE_IN_TIME]
    assert len(late) == 2
    assert "it goes back to the pool" in late[0]
    assert "it keeps its label, since no other standby can serve" in late[1]
    world.members.lists = True
    await world.run(3)
    assert set(world.serving()) == second


async def test_a_watch_that_is_late_puts_nobody_back_whom_the_service_lists() -> None:
    world = await calm(replicas=1, standbys=2)
    world.edit_spec(replicas=2)
    await world.one_pass()
    both = set(world.serving())
    world.cache.freeze()
    await world.run(12)
    world.cache.thaw()
    await world.run(3)
    assert set(world.serving()) == both
    assert world.condition("Ready")["status"] == "True"


class LateSlices:
    """The watch of EndpointSlices alone stands still; everything else is as it is."""

    def __init__(self, world: World) -> None:
        self.world, self.list, self.held = world, world.cache.list, dict[str, list[Manifest]]()
        world.cache.list = self  # type: ignore[method-assign]

    def __call__(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        found = self.list(kind, namespace, labels=labels)
        return self.held.setdefault(str(labels), found) if kind == ENDPOINT_SLICE else found

    def catch_up(self) -> None:
        self.world.cache.list = self.list  # type: ignore[method-assign]


def late_events(world: World) -> list[str]:
    return [event.message for event in world.telemetry.events if event.reason is Reason.NOT_IN_SERVICE_IN_TIME]


@pytest.mark.parametrize("seconds", [4, 7, 30])
async def test_slices_that_are_late_spend_no_standby_and_tell_of_nobody_who_left(seconds: float) -> None:
    world = await calm(replicas=1, standbys=3)
    slices = LateSlices(world)
    world.edit_spec(replicas=2)
    await world.run(1)
    both = world.serving()
    world.kube.calls.clear()
    for _ in range(int(seconds)):
        await world.run(1)
        assert world.serving() == both
    asked = [ref for verb, ref in world.kube.calls if verb == "list" and ref.kind == ENDPOINT_SLICE]
    assert len(asked) == (seconds > 5), "what the API server has shown once is known"
    assert world.telemetry.reasons("store").count(Reason.ACTIVATED) == (seconds > 5)
    assert Reason.NOT_IN_SERVICE_IN_TIME not in {condition["reason"] for condition in world.status["conditions"]}
    slices.catch_up()
    await world.run(10)
    assert world.serving() == both
    assert world.roles() == ["serving", "serving", "standby", "standby", "standby"]
    assert late_events(world) == []
    assert world.telemetry.reasons("store").count(Reason.ACTIVATED) == 1
    assert Reason.DRAINING not in world.telemetry.reasons("store")
    assert not [event for event in world.telemetry.events if event.message.startswith("Ready")]


@pytest.mark.parametrize("seconds", [7, 30])
async def test_without_another_standby_slices_that_are_late_are_no_reason_to_complain(seconds: int) -> None:
    world = await calm(replicas=1, standbys=1, readiness={"minServing": 2})
    slices = LateSlices(world)
    world.edit_spec(replicas=2, standbys=0)
    for _ in range(2 * seconds):
        await world.one_pass()
        await world.pass_time(0.5)
        assert "does not list" not in world.condition("Ready")["message"]
    assert world.condition("Ready")["status"] == "True"
    slices.catch_up()
    await world.run(5)
    assert late_events(world) == []


@pytest.mark.parametrize("seed", range(4))
async def test_slices_that_come_and_go_never_put_more_into_the_service_than_are_wanted(seed: int) -> None:
    """Counts that swing at random, while the watch stands still at random; only their largest may ever serve."""
    draw = random.Random(seed)
    world = await calm(replicas=1, standbys=3)
    for _ in range(6):
        wanted = draw.randint(1, 3)
        most = max(wanted, len(world.serving()))
        slices = LateSlices(world) if draw.random() < 0.7 else None
        world.edit_spec(replicas=wanted)
        for _ in range(draw.randint(2, 12)):
            await world.run(1)
            assert len(world.serving()) <= most
        if slices is not None:
            slices.catch_up()
        await world.run(2)
    await world.run(90, step=1)
    assert len(world.serving()) == wanted
    assert late_events(world) == []


async def test_a_late_one_that_the_service_lists_and_that_does_not_answer_gives_its_place_away() -> None:
    world = await calm(replicas=1, standbys=2)
    world.members.lists = False
    world.edit_spec(replicas=2, standbys=1)
    await world.run(1)
    [first] = [name for name in world.serving() if not is_confirmed(world, name)]
    await world.run(3.5)
    world.replica(first).is_hung = True
    world.members.lists = True
    await world.run(3)
    assert first not in world.serving()
    assert len(world.serving()) == 2
    [event] = late_events(world)
    assert event == f"{first} does not answer reads within 5 s; it goes back to the pool"


def is_confirmed(world: World, name: str) -> bool:
    [entry] = [entry for entry in world.status["members"] if entry["name"] == name]
    [serving] = [entry for entry in entry["conditions"] if entry["type"] == "Serving"]
    return bool(serving["status"] == "True")


async def test_a_place_that_could_not_be_given_up_is_not_filled_and_nobody_is_said_to_leave() -> None:
    world = await calm(replicas=1, standbys=2)
    world.members.lists = False
    world.edit_spec(replicas=2)
    await world.run(1)
    both = world.serving()
    busy = KubeUnavailable("busy", reason=Reason.KUBE_UNAVAILABLE)
    world.kube.faults.fail(busy, verb="list", times=1000)
    await world.run(12)
    assert world.serving() == both
    assert late_events(world) == []
    world.kube.faults.clear()
    await world.run(3)
    assert world.serving() != both
    assert "it goes back to the pool" in late_events(world)[0]


async def test_a_new_process_confirms_what_serves_and_reports_no_activation() -> None:
    world = await calm(replicas=2, standbys=1)
    serving = world.serving()
    world.restart()
    await world.run(10)
    assert world.serving() == serving
    assert Reason.ACTIVATED not in world.telemetry.reasons("store")
    assert Reason.NOT_IN_SERVICE_IN_TIME not in world.telemetry.reasons("store")


async def test_a_new_process_finishes_the_activation_that_the_old_one_began() -> None:
    world = await calm(replicas=1, standbys=2)
    world.members.lists = False
    world.edit_spec(replicas=2)
    await world.run(1)
    first = set(world.serving())
    world.restart()
    await world.run(4)
    assert set(world.serving()) == first, "the new process gives it its time again"
    await world.run(4)
    assert set(world.serving()) != first


async def drained_until_its_timeout(world: World) -> str:
    """A member with five busy sessions whose drain is over in the next pass."""
    for name in world.serving():
        world.replica(name).sessions = [MemorySession(state="active") for _ in range(5)]
    world.edit_spec(replicas=1)
    await world.run(1)
    [name] = [pod["metadata"]["name"] for pod in world.children(POD) if role_of(pod) == "draining"]
    await world.pass_time(30)
    return name


def role_of(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"][ROLE_LABEL])


async def test_a_member_that_is_activated_in_the_pass_in_which_its_drain_is_over_keeps_its_sessions() -> None:
    world = await calm(replicas=2, standbys=0, drain={"timeout": "30s"})
    name = await drained_until_its_timeout(world)
    world.edit_spec(replicas=2)
    await world.one_pass()
    assert name in world.serving()
    assert len(world.replica(name).sessions) == 5
    await world.run(10)
    assert len(world.replica(name).sessions) == 5


async def test_it_keeps_them_too_where_the_label_could_not_be_written_in_that_pass() -> None:
    world = await calm(replicas=2, standbys=0, drain={"timeout": "30s"})
    name = await drained_until_its_timeout(world)
    world.edit_spec(replicas=2)
    world.kube.faults.fail(Conflict("it has changed"), verb="patch", kind=POD, times=1)
    await world.one_pass()
    assert name not in world.serving()
    await world.run(5)
    assert name in world.serving()
    assert len(world.replica(name).sessions) == 5


async def test_sessions_of_a_member_that_serves_again_by_now_are_not_ended_by_a_late_watch() -> None:
    world = await calm(replicas=2, standbys=0, drain={"timeout": "30s"})
    name = await drained_until_its_timeout(world)
    world.cache.freeze()
    world.cluster.edit(pod_of(name), lambda pod: pod["metadata"]["labels"].update({ROLE_LABEL: "serving"}))
    await world.one_pass()
    assert len(world.replica(name).sessions) == 5


async def test_sessions_of_a_member_that_is_not_recalled_are_ended_then() -> None:
    world = await calm(replicas=2, standbys=0, drain={"timeout": "30s"})
    name = await drained_until_its_timeout(world)
    await world.one_pass()
    assert world.replica(name).sessions == []
