"""The VolumeSnapshotClass that a spec names: whether it is there, and for whose volumes it is."""

from dataclasses import dataclass

from headroom.errors import KubeUnavailable, Refused
from headroom.model.conditions import Finding
from headroom.model.snapshot import SnapshotClass
from headroom.ports.kube import VOLUME_SNAPSHOT_CLASS, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.context import Services

READ_AGAIN_SECONDS = 30.0
"""While it is missing; an existing one is not read again: a snapshot that fails tells of it."""


@dataclass(frozen=True, slots=True)
class KnownClass:
    """What was read under a name, and when (monotonic seconds)."""

    name: str
    found: SnapshotClass | Finding
    read_at: float


async def read_snapshot_class(services: Services, known: KnownClass | None, name: str) -> KnownClass | None:
    """None while the API server does not answer. Without the right to read it, it is taken to fit: its driver tells."""
    now = services.clock.monotonic()
    if known is not None and known.name == name:
        is_bad = isinstance(known.found, Finding)
        if not is_bad or now - known.read_at < READ_AGAIN_SECONDS:
            return known
    try:
        live = await services.kube.get(ObjectRef(VOLUME_SNAPSHOT_CLASS, "", name))
    except Refused:
        return KnownClass(name, SnapshotClass(name, ""), now)
    except KubeUnavailable:
        return known
    if live is None:
        message = f"there is no VolumeSnapshotClass {name}: create it or correct provisioning.snapshots.className"
        return KnownClass(name, Finding(Reason.SNAPSHOT_CLASS_NOT_FOUND, message), now)
    return KnownClass(name, SnapshotClass(name, str(live.get("driver", ""))), now)
