"""A ReplicaSet whose passes are made by hand, beside its guard."""

from datetime import timedelta
from typing import Any, ClassVar

from headroom.adapters.inmemory.postgres import MemoryPostgres
from headroom.adapters.inmemory.postgres_links import MemoryReplica
from headroom.errors import Conflict, HeadroomError, Unavailable
from headroom.model.database import ConnectionTarget
from headroom.ports.kube import FINALIZER, REPLICA_SET, Manifest, ObjectRef
from headroom.ports.postgres import ReplicaLink
from headroom.reconcilers.replicaset import ReplicaSetReconciler
from tests.manifests import NAMESPACE, make_set
from tests.unit.reconcilers.stepped import CONFLICT_SECONDS, SteppedWorld

NAME = "store"
SET = ObjectRef(REPLICA_SET, NAMESPACE, NAME)
STEP_SECONDS = 0.25


class LinkingPostgres(MemoryPostgres):
    """Gives out a test's own links to the members that it means."""

    link_class: ClassVar[type[MemoryReplica]] = MemoryReplica

    async def open_replica(self, target: ConnectionTarget) -> ReplicaLink:
        link = await MemoryPostgres.open_replica(self, target)
        assert isinstance(link, MemoryReplica)
        return self.link_class(link.session) if self.is_meant(target) else link

    def is_meant(self, target: ConnectionTarget) -> bool:
        """All of them, unless told."""
        return True


class World(SteppedWorld):
    """One set and all that it needs; `settings` are those of what its members need."""

    def __init__(self, **settings: bool) -> None:
        super().__init__()
        for name, is_on in settings.items():
            setattr(self.members, name, is_on)
        self.add_guard()

    @property
    def reconciler(self) -> ReplicaSetReconciler:
        found = self.loops.reconcilers[REPLICA_SET]
        assert isinstance(found, ReplicaSetReconciler)
        return found

    def add_set(self, **spec: Any) -> Manifest:
        manifest = make_set(NAME, **spec)
        manifest["metadata"]["finalizers"] = [FINALIZER]
        return self.cluster.seed(manifest)

    def edit_spec(self, **changes: Any) -> None:
        self.cluster.edit(SET, lambda item: item["spec"].update(changes))

    @property
    def body(self) -> Manifest:
        return self.read(SET)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.body.get("status", {}))

    def condition(self, kind: str) -> dict[str, Any]:
        return self.find_condition(SET, kind)

    async def one_pass(self) -> timedelta | None:
        """One pass of the level loop; None when it ended in an error it would survive."""
        await self.follow_guards()
        try:
            pause: timedelta = await self.drive(self.reconciler.reconcile(self.body))
        except HeadroomError:
            return None
        return pause

    async def run(self, seconds: float = 20.0, *, step: float = 0.0) -> None:
        """Passes and everybody else, for that long; `step` stretches the pauses where nothing happens for long."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            pause = await self.one_pass()
            await self.pass_time(max(pause.total_seconds() if pause is not None else CONFLICT_SECONDS, step))

    async def delete(self, seconds: float = 30.0, *, step: float = STEP_SECONDS) -> bool:
        """`kubectl delete`: teardown until the finalizer may go; True if it did within that time."""
        if "deletionTimestamp" not in self.body["metadata"]:
            self.cluster.delete(SET)
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.follow_guards()
            try:
                if await self.drive(self.reconciler.teardown(self.body)) is None:
                    return True
            except (Conflict, Unavailable):
                pass
            await self.pass_time(step)
        return False
