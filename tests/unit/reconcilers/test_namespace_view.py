"""What a pass reads of its namespace: by an index, whatever else the namespace holds."""

from collections.abc import Mapping

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.kube.cache import WatchCache
from headroom.policy.target_conflict import AutoscalerClaim, TargetId
from headroom.ports.kube import HORIZONTAL_POD_AUTOSCALER, WORKER_POOL, Kind, Manifest
from headroom.reconcilers.namespace_view import read_autoscalers, read_pools


class Indexed(WatchCache):
    """A cache whose namespaces are too large to be listed in each pass."""

    def list(self, kind: Kind, namespace: str, *, labels: Mapping[str, str] | None = None) -> list[Manifest]:
        raise AssertionError(f"all {kind.plural} of {namespace} are listed")


def observe(cache: WatchCache, kind: Kind, name: str, **spec: object) -> None:
    metadata = {
        "namespace": "shop",
        "name": name,
        "uid": name,
        "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    cache.observe(kind, {"metadata": metadata, "spec": spec})


def test_only_the_autoscalers_of_the_target_are_read() -> None:
    cache = Indexed(MemoryClock())
    for name in ("mail", "bills", "other"):
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        observe(cache, HORIZONTAL_POD_AUTOSCALER, f"{name}-scaler", scaleTargetRef=ref)
    found = read_autoscalers(cache, "shop", "mail")
    assert found == (AutoscalerClaim("mail-scaler", TargetId("apps", "Deployment", "mail"), None),)


def test_only_the_pools_of_the_target_are_read() -> None:
    cache = Indexed(MemoryClock())
    for name in ("mail", "bills"):
        ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        observe(cache, WORKER_POOL, name, workers={"targetRef": ref})
    found = read_pools(cache, "shop", TargetId("apps", "Deployment", "mail"))
    assert [claim.name for claim in found] == ["mail"]
