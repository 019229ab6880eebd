"""Events: what is posted, merged, limited and dropped, on a clock that only the test moves."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.adapters.telemetry.event_queue import NAMESPACE_QUEUE_LIMIT, QUEUE_LIMIT
from headroom.adapters.telemetry.events import EventRecorder, build_event
from headroom.errors import KubeUnavailable, Refused
from headroom.ports.kube import EVENT, Manifest, ObjectRef
from headroom.reasons import Reason


def build_object(name: str = "store", *, namespace: str = "shop") -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name, "uid": f"uid-{name}"}
    return {"apiVersion": "headroom.dev/v1alpha1", "kind": "ReplicaSet", "metadata": metadata}


class Desk:
    """A recorder with its server and what it counted."""

    def __init__(self) -> None:
        self.clock = MemoryClock(spins=8)
        self.kube = MemoryKube(clock=self.clock)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.recorder = EventRecorder(self.clock, lambda *key: self.counts.update([key]), "operator-1")

    def emit(
        self,
        name: str = "store",
        reason: Reason = Reason.ACTIVATED,
        message: str = "took over",
        *,
        namespace: str = "shop",
    ) -> None:
        self.recorder.emit(build_object(name, namespace=namespace), reason, message, "Normal")

    def names(self, namespace: str) -> set[str]:
        """Whom the stored events of a namespace are about."""
        found = (event["involvedObject"] for event in self.stored())
        return {about["name"] for about in found if about["namespace"] == namespace}

    def stored(self) -> list[Manifest]:
        return [entry.manifest for ref, entry in self.kube.store.entries.items() if ref.kind == EVENT]

    def outcomes(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for (_, outcome), count in self.counts.items():
            total[outcome] += count
        return dict(total)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    task = asyncio.create_task(desk.recorder.run(desk.kube))
    yield desk
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_event_says_what_who_and_when(desk: Desk) -> None:
    desk.emit()
    await desk.clock.advance(0.1)
    (event,) = desk.stored()
    assert event["eventTime"] == "2026-01-01T00:00:00.000000Z"
    assert (event["reason"], event["message"], event["type"]) == ("Activated", "took over", "Normal")
    assert event["involvedObject"] == {
        "apiVersion": "headroom.dev/v1alpha1",
        "kind": "ReplicaSet",
        "namespace": "shop",
        "name": "store",
        "uid": "uid-store",
    }
    assert (event["reportingComponent"], event["reportingInstance"]) == ("headroom.dev/operator", "operator-1")
    assert event["action"]
    assert event["apiVersion"] == "v1", "kubectl describe sorts by lastTimestamp, which events.k8s.io refuses"
    assert event["firstTimestamp"] == event["lastTimestamp"] == "2026-01-01T00:00:00Z"
    assert "series" not in event


async def test_repetitions_become_a_series_once_in_five_minutes(desk: Desk) -> None:
    for _ in range(299):
        desk.emit()
        await desk.clock.advance(1)
    assert len(desk.stored()) == 1
    assert "series" not in desk.stored()[0]
    await desk.clock.advance(15)
    assert desk.stored()[0]["series"]["count"] == 299
    assert desk.stored()[0]["series"]["lastObservedTime"] == "2026-01-01T00:04:58.000000Z"
    assert desk.stored()[0]["lastTimestamp"] == "2026-01-01T00:04:58Z"
    assert [verb for verb, _ in desk.kube.writes] == ["create", "patch"]
    desk.emit()
    await desk.clock.advance(320)
    assert desk.stored()[0]["series"]["count"] == 300
    assert desk.outcomes() == {"posted": 3, "merged": 299}


async def test_after_a_quiet_window_it_is_a_new_event(desk: Desk) -> None:
    desk.emit()
    await desk.clock.advance(400)
    desk.emit()
    await desk.clock.advance(1)
    assert len(desk.stored()) == 2


async def test_reasons_and_objects_are_told_apart(desk: Desk) -> None:
    desk.emit()
    desk.emit(reason=Reason.DRAINING)
    desk.emit("other")
    await desk.clock.advance(1)
    assert len(desk.stored()) == 3


DISTINCT = [
    (
        "store-a1b2 serves reads, confirmed 0.42 s after the decision",
        "store-c3d4 serves reads, confirmed 0.42 s after the decision",
    ),
    (
        "store-1 serves reads, confirmed 0.42 s after the decision",
        "store-2 serves reads, confirmed 0.42 s after the decision",
    ),
    ("Healthy -> Brownout by lockWaiters", "Brownout -> Overloaded by lockWaiters"),
    ("Deployment worker from 2 to 4 workers", "Deployment worker from 4 to 6 workers"),
    ("10.0.0.1 does not answer", "10.0.0.2 does not answer"),
]
ALIKE = [
    (
        "store-a1b2 serves reads, confirmed 0.42 s after the decision",
        "store-a1b2 serves reads, confirmed 1.07 s after the decision",
    ),
    ("the slot keeps 912 MiB", "the slot keeps 913 MiB"),
    ("it has not streamed for 60 s", "it has not streamed for 61 s"),
    ("active per core 310 % >= 300 %", "active per core 410 % >= 300 %"),
    ("24.1 jobs/s arrive", "23.9 jobs/s arrive"),
    ("the lag is 0.5.", "the lag is 0.7."),
]


@pytest.mark.parametrize("messages", DISTINCT)
async def test_each_replica_state_and_step_is_told(desk: Desk, messages: tuple[str, str]) -> None:
    for message in messages:
        desk.emit(message=message)
    await desk.clock.advance(1)
    assert {event["message"] for event in desk.stored()} == set(messages)


@pytest.mark.parametrize("messages", ALIKE)
async def test_a_measured_number_alone_is_no_news(desk: Desk, messages: tuple[str, str]) -> None:
    for message in messages:
        desk.emit(message=message)
    await desk.clock.advance(1)
    assert [event["message"] for event in desk.stored()] == [messages[0]]
    assert desk.outcomes() == {"merged": 1, "posted": 1}


async def test_a_flood_of_different_messages_is_limited(desk: Desk) -> None:
    for number in range(100):
        desk.emit(message=f"from {number} to {number + 1} workers")
    await desk.clock.advance(1)
    assert len(desk.stored()) == 10
    assert desk.outcomes()["object_limit"] == 90


async def test_one_object_gets_ten_and_then_ten_a_minute(desk: Desk) -> None:
    reasons = list(Reason)
    for reason in reasons[:25]:
        desk.emit(reason=reason)
    await desk.clock.advance(1)
    assert len(desk.stored()) == 10
    assert desk.outcomes()["object_limit"] == 15
    await desk.clock.advance(60)
    for reason in reasons[25:50]:
        desk.emit(reason=reason)
    await desk.clock.advance(1)
    assert len(desk.stored()) == 20
    desk.emit("other")
    await desk.clock.advance(1)
    assert len(desk.stored()) == 21


async def test_all_objects_together_get_five_a_second(desk: Desk) -> None:
    for number in range(100):
        desk.emit(f"set-{number}")
    await desk.clock.advance(1)
    first = len(desk.stored())
    assert first == 25
    await desk.clock.advance(2)
    for number in range(100):
        desk.emit(f"later-{number}")
    await desk.clock.advance(1)
    # A namespace may have half of the five a second.
    assert len(desk.stored()) == first + 7
    assert desk.outcomes()["namespace_limit"] == 75 + 93


async def test_all_namespaces_together_get_five_a_second(desk: Desk) -> None:
    for number in range(100):
        desk.emit(f"set-{number}", namespace=f"team-{number}")
    await desk.clock.advance(1)
    assert len(desk.stored()) == 30
    await desk.clock.advance(15)
    assert len(desk.stored()) == 100
    assert desk.outcomes() == {"posted": 100}


async def test_nothing_blocks_when_nobody_posts() -> None:
    desk = Desk()
    for number in range(NAMESPACE_QUEUE_LIMIT + 100):
        await desk.clock.advance(0.5)
        desk.emit(f"set-{number}")
    assert desk.outcomes() == {"queue_full": 100}
    for number in range(QUEUE_LIMIT + 100):
        desk.emit(f"other-{number}", namespace=f"team-{number}")
    assert desk.outcomes() == {"queue_full": 200 + NAMESPACE_QUEUE_LIMIT}


async def test_hundreds_of_objects_do_not_keep_the_events_of_another_namespace_waiting(desk: Desk) -> None:
    """Four hundred objects emit as much as they may, in turn; another namespace emits one event a second."""
    reasons = itertools.cycle(Reason)
    late = 0
    for tick in range(200):
        for number in range(tick % 60, 400, 60):
            desk.emit(f"loud-{number}", next(reasons), f"step {tick}", namespace="loud")
        if tick % 10 == 9:
            desk.emit(f"quiet-{tick}", namespace="quiet")
        await desk.clock.advance(0.1)
        late += tick % 10 == 9 and f"quiet-{tick}" not in desk.names("quiet")
    await desk.clock.advance(1)
    print(f"\none event a second beside 400 loud objects: {len(desk.names('quiet'))} of 20 posted, {late} after 0.1 s")
    assert len(desk.names("quiet")) == 20
    assert late == 0


async def test_a_namespace_whose_events_are_turned_away_delays_no_other(desk: Desk) -> None:
    slow = KubeUnavailable("HTTP 429", reason=Reason.KUBE_UNAVAILABLE, retry_after=timedelta(seconds=60))
    desk.kube.faults.fail(slow, verb="create", times=1)
    desk.emit("loud", namespace="loud")
    await desk.clock.advance(0.1)
    desk.emit("quiet", namespace="quiet")
    await desk.clock.advance(0.1)
    assert (desk.names("quiet"), desk.names("loud")) == ({"quiet"}, set())
    await desk.clock.advance(61)
    assert desk.names("loud") == {"loud"}


async def test_a_message_is_one_visible_line(desk: Desk) -> None:
    desk.emit(message="the server said \x1b[2Jx\r\n2026-01-01 \u202egnorw\x00")
    await desk.clock.advance(0.1)
    assert desk.stored()[0]["message"] == "the server said \ufffd[2Jx  2026-01-01 \ufffdgnorw\ufffd"


async def test_a_lost_response_makes_one_event(desk: Desk) -> None:
    desk.kube.faults.lose_response(verb="create")
    desk.emit()
    await desk.clock.advance(5)
    assert len(desk.stored()) == 1
    assert desk.outcomes() == {"posted": 1}


async def test_an_outage_is_waited_out_and_then_given_up(desk: Desk) -> None:
    desk.kube.faults.fail(KubeUnavailable("HTTP 429", reason=Reason.KUBE_UNAVAILABLE), verb="create", nth=1, times=2)
    desk.emit()
    await desk.clock.advance(10)
    assert desk.outcomes() == {"posted": 1}
    desk.kube.faults.fail(KubeUnavailable("HTTP 503", reason=Reason.KUBE_UNAVAILABLE), verb="create", times=3)
    desk.emit("other")
    await desk.clock.advance(10)
    assert desk.outcomes() == {"posted": 1, "unavailable": 1}


async def test_a_refused_event_is_counted_and_the_next_tried(desk: Desk) -> None:
    desk.kube.faults.fail(Refused("HTTP 403", reason=Reason.FORBIDDEN), verb="create")
    desk.emit()
    await desk.clock.advance(1)
    desk.emit()
    await desk.clock.advance(1)
    assert desk.outcomes() == {"refused": 1, "posted": 1}


async def test_a_series_whose_event_expired_begins_anew(desk: Desk) -> None:
    desk.emit()
    await desk.clock.advance(1)
    desk.emit()
    name = desk.stored()[0]["metadata"]["name"]
    Cluster(desk.kube).remove(ObjectRef(EVENT, "shop", name))
    await desk.clock.advance(320)
    assert desk.outcomes()["expired"] == 1
    desk.emit()
    await desk.clock.advance(1)
    assert len(desk.stored()) == 1


async def test_what_is_over_is_not_kept(desk: Desk) -> None:
    for number in range(20):
        desk.emit(f"set-{number}")
    await desk.clock.advance(700)
    assert desk.recorder._series == {}
    assert desk.recorder._objects == {}


@pytest.mark.parametrize("message", ["x" * 5000, "ü" * 3000])
def test_a_long_message_is_cut_to_the_limit_of_bytes(message: str) -> None:
    event = build_event(
        build_object(), "Activated", message, type_="Normal", moment=MemoryClock().now(), instance="operator-1"
    )
    assert len(event["message"].encode()) <= 1024
    assert event["message"].endswith("...")


def test_an_object_without_a_namespace_or_a_name_is_no_error() -> None:
    desk = Desk()
    desk.recorder.emit({"kind": "Node", "metadata": {"name": "n1"}}, Reason.NODE_LOST, "", "Warning")
    desk.recorder.emit({}, Reason.NODE_LOST, "", "Warning")
    assert desk.outcomes() in ({}, {"merged": 1})
