"""The VolumeSnapshot of a member's volume."""

from typing import Any

from headroom.manifests.children import Owner, build_metadata
from headroom.model.snapshot import Stamps


def build_snapshot(owner: Owner, name: str, *, claim: str, class_name: str, stamps: Stamps) -> dict[str, Any]:
    """A snapshot of the volume of `claim`; its annotations say what a restore has to know."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": build_metadata(owner, name, annotations=stamps.format()),
        "spec": {"volumeSnapshotClassName": class_name, "source": {"persistentVolumeClaimName": claim}},
    }
