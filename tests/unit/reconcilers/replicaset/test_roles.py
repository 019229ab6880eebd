"""The role label's one writer: it writes only what it read."""

from datetime import UTC, datetime

import pytest

from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.errors import Conflict
from headroom.model.replica import ROLE_LABEL, PodFacts, Role
from headroom.ports.kube import POD, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.children import parse_pod
from headroom.reconcilers.replicaset.roles import ensure_draining, ensure_role

REF = ObjectRef(POD, "shop", "store-0-a")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def make_pod() -> tuple[MemoryKube, Cluster, PodFacts]:
    kube = MemoryKube()
    cluster = Cluster(kube)
    labels = {ROLE_LABEL: "standby"}
    metadata = {"name": REF.name, "namespace": REF.namespace, "labels": labels, "annotations": {"a": "b"}}
    return kube, cluster, parse_pod(cluster.seed({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}))


async def test_a_drain_is_written_with_its_time_and_reason_and_taken_back_without_a_trace() -> None:
    kube, cluster, pod = make_pod()
    serving = await ensure_role(kube, "shop", pod, Role.SERVING)
    draining = await ensure_draining(kube, "shop", serving, Reason.REPLAY_LAG_ABOVE_LIMIT, NOW)
    assert (draining.role, draining.why, draining.draining_since) == (
        Role.DRAINING,
        Reason.REPLAY_LAG_ABOVE_LIMIT,
        NOW,
    )
    back = await ensure_role(kube, "shop", draining, Role.STANDBY)
    assert (back.role, back.why, back.draining_since) == (Role.STANDBY, None, None)
    found = cluster.read(REF)
    assert found is not None
    assert found["metadata"]["annotations"] == {"a": "b"}


async def test_a_pod_that_changed_since_it_was_read_is_not_labelled() -> None:
    kube, cluster, pod = make_pod()
    cluster.edit(REF, lambda item: item["metadata"]["annotations"].update(a="c"))
    with pytest.raises(Conflict):
        await ensure_role(kube, "shop", pod, Role.SERVING)


@pytest.mark.parametrize("written", [None, "bogus"])
async def test_a_label_that_somebody_took_away_or_spoilt_is_put_right(written: str | None) -> None:
    kube, cluster, _ = make_pod()
    labels = {"app": "store"} if written is None else {ROLE_LABEL: written}
    cluster.edit(REF, lambda item: item["metadata"].update(labels=labels))
    found = await kube.get(REF)
    assert found is not None
    assert (await ensure_role(kube, "shop", parse_pod(found), Role.STANDBY)).role_label == "standby"


async def test_a_pod_made_anew_under_the_same_name_is_not_labelled() -> None:
    kube, cluster, pod = make_pod()
    cluster.remove(REF)
    labels = {ROLE_LABEL: "standby"}
    cluster.seed(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": REF.name, "namespace": "shop", "labels": labels}}
    )
    with pytest.raises(Conflict):
        await ensure_role(kube, "shop", pod, Role.SERVING)
