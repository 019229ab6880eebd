"""Snapshots as an operator that took them has left them: the object, its stamps, and the anchor on the primary."""

from typing import Any

from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.manifests.children import Owner, build_metadata
from headroom.model.database import Lsn
from headroom.model.replica import MemberId
from headroom.model.snapshot import Stamps, anchor_name, snapshot_name
from headroom.ports.kube import CLAIM, VOLUME_SNAPSHOT, Manifest, ObjectRef
from tests.controllers import find_all
from tests.manifests import make
from tests.memory_world import INSTALL, MemoryWorld

OLDER, NEWER = "b", "c"
SNAPSHOTS = {"className": "csi-snap"}
"""What a spec says to have them used."""


def add_snapshot(
    world: MemoryWorld, set_ref: ObjectRef, incarnation: str = OLDER, *, size: str = "1Gi", **changes: Any
) -> str:
    """Add a ready one of a member that was stopped just now, and its anchor; `changes` are of the stamps."""
    metadata, primary = world.read(set_ref)["metadata"], world.primary
    owner = Owner(set_ref.name, set_ref.namespace, metadata["uid"])
    name, anchor = snapshot_name(owner.name, incarnation), anchor_name(INSTALL, owner.uid, incarnation)
    anchored = add_anchor(primary, anchor)
    stamps = {
        "system_identifier": primary.system_identifier,
        "timeline": primary.timeline,
        "major": primary.version // 10_000,
        "consistency": "Stopped",
        "source_slot": MemberId(0, "a").slot_name(INSTALL, owner.uid),
        "anchor": anchor,
        "from_lsn": anchored,
        "to_lsn": Lsn(primary.lsn),
    }
    annotations = Stamps(**{**stamps, **changes}).format()
    source = {"persistentVolumeClaimName": MemberId(0, "a").object_name(owner.name)}
    world.cluster.seed(
        make(
            VOLUME_SNAPSHOT,
            name,
            owner.namespace,
            metadata=build_metadata(owner, name, annotations=annotations),
            spec={"volumeSnapshotClassName": SNAPSHOTS["className"], "source": source},
            status={"readyToUse": True, "restoreSize": size},
        )
    )
    return name


def add_anchor(primary: MemoryServer, name: str) -> Lsn:
    """The slot that keeps the WAL from here on."""
    return primary.create_slot(name, primary.roles["replication"], 0.0).restart_lsn


def read_source(claim: Manifest) -> str:
    """The snapshot that a claim's volume is made of; empty if it is made of none."""
    return str((claim["spec"].get("dataSource") or {}).get("name", ""))


def restored(world: MemoryWorld) -> dict[str, str]:
    """The claims that were made of a snapshot, and which."""
    found = {claim["metadata"]["name"]: read_source(claim) for claim in find_all(world.kube, CLAIM)}
    return {name: source for name, source in found.items() if source}
