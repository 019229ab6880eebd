"""What only a real API server can show: rights, quotas, ending namespaces, and a lease between two processes."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from headroom.adapters.clock import SystemClock
from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.kube.api import ApiKube
from headroom.adapters.kube.connect import connect
from headroom.adapters.kube.lease import LEASE_LIMITS, LeaseElector
from headroom.adapters.telemetry.events import SERIES_SECONDS, EventRecorder
from headroom.errors import KubeUnavailable, NotLeading, Refused
from headroom.ports.kube import CONFIG_MAP, EVENT, LEASE, NAMESPACE, POD, Kind, Manifest, ObjectRef
from headroom.reasons import Reason

from .conftest import eventually, open_real, prepare

pytestmark = pytest.mark.cluster
QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")


@pytest.fixture
async def real(*, sample_definition: bool) -> AsyncIterator[ApiKube]:
    if not sample_definition:
        pytest.skip("KUBECONFIG is not set: there is no API server")
    async with open_real() as kube:
        yield kube


@pytest.fixture
async def namespace(real: ApiKube) -> AsyncIterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    created = await real.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    await real.delete(ObjectRef(NAMESPACE, "", name), uid=created["metadata"]["uid"])


@pytest.fixture
async def nobody(*, sample_definition: bool) -> AsyncIterator[ApiKube]:
    """A user without any right, by impersonation."""
    if not sample_definition:
        pytest.skip("KUBECONFIG is not set: there is no API server")
    client = await connect()
    client.set_default_header("Impersonate-User", "contract-nobody")
    kube = ApiKube(client, clock=SystemClock())
    yield kube
    await kube.close()


def build_map(namespace: str, **metadata: object) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": "one", **metadata},
    }


async def test_a_missing_right_names_the_rule(nobody: ApiKube, namespace: str) -> None:
    with pytest.raises(Refused) as error:
        await nobody.create(build_map(namespace))
    assert error.value.reason is Reason.FORBIDDEN
    assert '{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}' in str(error.value)


async def test_a_missing_right_to_scale_names_the_role(nobody: ApiKube, namespace: str) -> None:
    with pytest.raises(Refused) as error:
        await nobody.get_scale(ObjectRef(Kind("apps/v1", "Deployment", "deployments"), namespace, "workers"))
    assert error.value.reason is Reason.TARGET_FORBIDDEN
    assert "rbac.headroom.dev/scale-target" in str(error.value)


async def test_a_namespace_that_ends_says_so(real: ApiKube) -> None:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    created = await real.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    held = await real.create(build_map(name, finalizers=["headroom.dev/contract"]))
    await real.delete(ObjectRef(NAMESPACE, "", name), uid=created["metadata"]["uid"])
    try:
        manifest = build_map(name)
        manifest["metadata"]["name"] = "two"
        with pytest.raises(Refused) as error:
            await real.create(manifest)
        assert error.value.reason is Reason.NAMESPACE_TERMINATING
    finally:
        operation = {"op": "remove", "path": "/metadata/finalizers"}
        await real.patch(ObjectRef(CONFIG_MAP, name, held["metadata"]["name"]), [operation])


async def test_a_quota_says_so(real: ApiKube, namespace: str) -> None:
    world = await prepare(real, namespace)
    if not world.has_controllers:
        pytest.skip("this API server has no controller manager, which counts quotas")
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"namespace": namespace, "name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    await real.create(quota)

    async def is_counted() -> bool:
        found = await real.get(ObjectRef(QUOTA, namespace, "none"))
        return bool(found and found.get("status", {}).get("used"))

    await eventually(is_counted, "the quota to be counted")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": "one"},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    }
    with pytest.raises(Refused) as error:
        await real.create(pod)
    assert error.value.reason is Reason.QUOTA_EXCEEDED
    assert await real.get(ObjectRef(POD, namespace, "one")) is None


async def test_two_processes_lead_one_after_the_other(real: ApiKube, namespace: str) -> None:
    clock = SystemClock()
    ref = ObjectRef(LEASE, namespace, "headroom")
    first_kube, second_kube = (real.with_limits(LEASE_LIMITS) for _ in range(2))
    first = LeaseElector(first_kube, clock, lease=ref, holder="pod-a_1")
    second = LeaseElector(second_kube, clock, lease=ref, holder="pod-b_2")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(4)
    first.check(3.0)
    with pytest.raises(NotLeading):
        second.check(0)
    cut_off_at = clock.monotonic()
    first_kube.create = first_kube.patch = first_kube.get = _unreachable  # type: ignore[method-assign]
    term = await asyncio.wait_for(waiting, 15)
    assert 7 < clock.monotonic() - cut_off_at < 15
    assert first.lost.is_set()
    with pytest.raises(NotLeading):
        first.check(0)
    second.check(3.0)
    assert (term.previous_holder, term.number) == ("pod-a_1", 1)
    await second.release()
    found = await real.get(ref)
    assert found is not None
    assert found["spec"]["holderIdentity"] == ""


async def test_events_are_accepted_and_counted_on(real: ApiKube, namespace: str) -> None:
    about = await real.create(build_map(namespace))
    moments = MemoryClock(spins=2)
    counts: list[tuple[str, str]] = []
    recorder = EventRecorder(moments, lambda *outcome: counts.append(outcome), "operator-1")
    posting = asyncio.create_task(recorder.run(real))
    recorder.emit(about, Reason.ACTIVATED, "took over", "Normal")
    recorder.emit(about, Reason.ACTIVATED, "took over", "Normal")

    async def are_posted(number: int) -> bool:
        return counts.count((str(Reason.ACTIVATED), "posted")) == number

    await eventually(lambda: are_posted(1), "the event to be posted")
    (event,) = await real.list(EVENT, namespace)
    assert event["message"] == "took over"
    first_seen = event["lastTimestamp"]
    assert first_seen
    await moments.advance(SERIES_SECONDS + 1)
    recorder.sweep()
    await eventually(lambda: are_posted(2), "the series to be posted")
    (event,) = await real.list(EVENT, namespace)
    assert event["series"]["count"] == 2
    assert event["lastTimestamp"] >= first_seen
    posting.cancel()


async def _unreachable(*_args: object, **_more: object) -> Manifest:
    raise KubeUnavailable("cut off", reason=Reason.KUBE_UNAVAILABLE)
