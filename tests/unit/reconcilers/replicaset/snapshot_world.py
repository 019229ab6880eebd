"""A set with snapshots, the driver that takes them and the primary, in memory."""

from typing import Any

from headroom.model.snapshot import SNAPSHOT_ANNOTATION, Stamps
from headroom.ports.kube import CLAIM, POD, VOLUME_SNAPSHOT, Manifest
from tests.manifests import NAMESPACE
from tests.unit.reconcilers.replicaset.world import NAME, SET, World

SNAPSHOTS: dict[str, Any] = {"className": "csi-snap", "maxAge": "1h"}
LABELS = {"namespace": NAMESPACE, "name": NAME}
TAKEN_IN = 90.0
"""A copy, a stop, a snapshot and the way back, with all pauses between passes."""


class SnapshotWorld(World):
    """A set with snapshots; it notes the fewest that served and stood by warm once it was whole."""

    def __init__(self, *, has_class: bool = True, **settings: bool) -> None:
        super().__init__(**settings)
        if has_class:
            self.add_snapshot_class()
        self.fewest: dict[str, int] | None = None

    def begin(self, replicas: int = 1, standbys: int = 1, snapshots: dict[str, Any] | None = None, **spec: Any) -> None:
        provisioning = {"maxSlotWAL": "1Gi", "snapshots": {**SNAPSHOTS, **(snapshots or {})}}
        spec = {"storage": {"size": "100Gi"}, **spec}
        self.add_set(replicas=replicas, standbys=standbys, provisioning=provisioning, **spec)

    def play(self) -> None:
        super().play()
        counts = {role: self.roles().count(role) for role in ("serving", "standby")}
        if self.fewest is not None:
            self.fewest = {role: min(count, self.fewest[role]) for role, count in counts.items()}

    def watch(self) -> None:
        """From now on the fewest are noted."""
        self.fewest = {role: self.roles().count(role) for role in ("serving", "standby")}

    @property
    def taken(self) -> list[Manifest]:
        return self.children(VOLUME_SNAPSHOT)

    def whole(self) -> list[str]:
        ready = [item for item in self.taken if (item.get("status") or {}).get("readyToUse")]
        return sorted(item["metadata"]["name"] for item in ready if read_stamps(item).to_lsn is not None)

    def fresh(self) -> tuple[str, str]:
        found = self.condition("SnapshotFresh")
        return found.get("status", ""), found.get("reason", "")

    def sources(self) -> list[str]:
        claims = self.children(CLAIM)
        return [c["metadata"]["name"] for c in claims if SNAPSHOT_ANNOTATION in c["metadata"].get("annotations", {})]

    def check_clean(self, members: int) -> None:
        """No claim, slot or anchor is left over."""
        assert len(self.names(CLAIM)) == members
        self.check_no_orphan(SET)
        self.check_anchors()
        assert self.sources() == []

    async def until(self, seconds: float, is_so: Any) -> None:
        end = self.clock.monotonic() + seconds
        while not is_so():
            assert self.clock.monotonic() < end, (self.condition("SnapshotFresh"), self.names(POD), self.anchors())
            await self.run(0.5)


def read_stamps(item: Manifest) -> Stamps:
    found = Stamps.parse(item["metadata"]["annotations"])
    assert found is not None
    return found


async def make(**spec: Any) -> SnapshotWorld:
    """A set whose first snapshot is whole."""
    world = SnapshotWorld()
    world.begin(**spec)
    await world.run(TAKEN_IN)
    assert len(world.whole()) == 1, world.condition("SnapshotFresh")
    return world
