"""The content of a Lease, and the patches that take, renew and release it: pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headroom.model.moments import format_moment
from headroom.ports.kube import LEASE, JsonOp, Manifest, ObjectRef


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The times of the lease, in seconds. A follower waits `drift_margin` longer than the leader counts, so that there
    are never two leaders if their clocks run at slightly different speeds.
    """

    lease_seconds: float = 9.0
    renew_deadline_seconds: float = 6.0
    retry_seconds: float = 1.5
    jitter: float = 0.2
    drift_margin: float = 0.02


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A Lease as read; `holder` is empty when it was released. `acquired_at` distinguishes two terms of one holder."""

    uid: str
    resource_version: str
    holder: str
    acquired_at: str
    duration_seconds: float
    transitions: int


def parse_lease(manifest: Manifest) -> LeaseRecord:
    """Read a Lease; what is missing counts as released."""
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    return LeaseRecord(
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        holder=spec.get("holderIdentity") or "",
        acquired_at=spec.get("acquireTime") or "",
        duration_seconds=float(spec.get("leaseDurationSeconds") or 0),
        transitions=int(spec.get("leaseTransitions") or 0),
    )


def build_lease(ref: ObjectRef, holder: str, now: datetime, times: LeaseTimes, *, transitions: int = 0) -> Manifest:
    """A new Lease, held from the first moment on."""
    return {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.name,
        "metadata": {"namespace": ref.namespace, "name": ref.name},
        "spec": _build_spec(holder, now, times, transitions),
    }


def build_takeover(record: LeaseRecord, holder: str, now: datetime, times: LeaseTimes) -> list[JsonOp]:
    """Take the Lease exactly as it was read: any renewal in between makes this a Conflict."""
    return [
        {"op": "test", "path": "/metadata/uid", "value": record.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": record.resource_version},
        {"op": "add", "path": "/spec", "value": _build_spec(holder, now, times, record.transitions + 1)},
    ]


def build_renewal(holder: str, acquired_at: str, now: datetime) -> list[JsonOp]:
    """Renew our own term, whatever else was written to the Lease, and also after a lost response."""
    return [
        *_test_term(holder, acquired_at),
        {"op": "add", "path": "/spec/renewTime", "value": format_moment(now)},
    ]


def build_release(holder: str, acquired_at: str, now: datetime) -> list[JsonOp]:
    """Give up our own term, so that the next holder need not wait."""
    return [
        *_test_term(holder, acquired_at),
        {"op": "replace", "path": "/spec/holderIdentity", "value": ""},
        {"op": "add", "path": "/spec/renewTime", "value": format_moment(now)},
    ]


def _test_term(holder: str, acquired_at: str) -> list[Mapping[str, Any]]:
    return [
        {"op": "test", "path": "/spec/holderIdentity", "value": holder},
        {"op": "test", "path": "/spec/acquireTime", "value": acquired_at},
    ]


def _build_spec(holder: str, now: datetime, times: LeaseTimes, transitions: int) -> dict[str, Any]:
    moment = format_moment(now)
    return {
        "holderIdentity": holder,
        "leaseDurationSeconds": round(times.lease_seconds),
        "acquireTime": moment,
        "renewTime": moment,
        "leaseTransitions": transitions,
    }
