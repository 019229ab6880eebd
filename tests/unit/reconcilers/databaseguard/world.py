"""A DatabaseGuard beside its primary, whose passes are made by hand on a clock that a test moves."""

from datetime import timedelta
from typing import Any

from headroom.adapters.inmemory.clock import MemoryClock, settle
from headroom.adapters.inmemory.kube_cache import MemoryCache
from headroom.model.database import DatabaseView
from headroom.ports.kube import DATABASE_GUARD, OUR_KINDS, SECRET, Manifest, ObjectRef
from headroom.reconcilers.databaseguard import GuardReconciler
from headroom.reconcilers.servers import GuardLinks
from tests import manifests
from tests.manifests import NAMESPACE, make_set
from tests.memory_world import MemoryWorld

VERIFIED = {"tls": {"mode": "verify-full"}}


def make_guard(name: str = "store", namespace: str = NAMESPACE, **spec: Any) -> Manifest:
    """A guard that verifies its server's certificate: it has nothing to remark."""
    connection = {**VERIFIED, **spec.pop("connection", {})}
    return manifests.make_guard(name, namespace, connection=connection, **spec)


def ref(name: str = "store", namespace: str = NAMESPACE) -> ObjectRef:
    return ObjectRef(DATABASE_GUARD, namespace, name)


class GuardWorld(MemoryWorld):
    """The guard `store` and all that its reconciler talks to."""

    clock: MemoryClock

    def __init__(self) -> None:
        super().__init__(MemoryClock())
        self.add_guard(connection=VERIFIED)
        self.restart()

    def restart(self) -> None:
        """A new process: nothing in memory is left."""
        cache = MemoryCache(self.kube.store)
        loops = self.build_loops(dict.fromkeys(OUR_KINDS, self.kube), self.kube, cache, self.postgres)
        found = loops.reconcilers[DATABASE_GUARD]
        assert isinstance(found, GuardReconciler)
        self.reconciler, self.servers = found, loops.servers

    def remove_secret(self, name: str) -> None:
        self.cluster.remove(ObjectRef(SECRET, NAMESPACE, name))

    def edit_spec(self, change: Any, name: str = "store") -> None:
        self.cluster.edit(ref(name), lambda guard: change(guard["spec"]))

    def annotate(self, **annotations: str) -> None:
        self.cluster.edit(ref(), lambda guard: guard["metadata"].update(annotations=annotations))

    def add_set(self, name: str, guard: str = "store") -> None:
        self.seed(make_set(name, databaseRef={"name": guard}))

    def body(self, name: str = "store", namespace: str = NAMESPACE) -> Manifest:
        return self.read(ref(name, namespace))

    @property
    def status(self) -> dict[str, Any]:
        return self.status_of("store")

    def status_of(self, name: str, namespace: str = NAMESPACE) -> dict[str, Any]:
        return dict(self.body(name, namespace).get("status", {}))

    def condition(self, kind: str = "Ready", name: str = "store", namespace: str = NAMESPACE) -> dict[str, Any]:
        return self.find_condition(ref(name, namespace), kind)

    @property
    def ready(self) -> tuple[str, str]:
        return self.ready_of("store")

    def ready_of(self, name: str, namespace: str = NAMESPACE) -> tuple[str, str]:
        condition = self.condition("Ready", name, namespace)
        return condition["status"], condition["reason"]

    @property
    def view(self) -> DatabaseView:
        return self.view_of("store")

    def view_of(self, name: str, namespace: str = NAMESPACE) -> DatabaseView:
        found = self.servers.view((namespace, name))
        assert found is not None
        return found

    @property
    def links(self) -> GuardLinks | None:
        return self.servers.links((NAMESPACE, "store"))

    async def step(self, name: str = "store", namespace: str = NAMESPACE) -> timedelta:
        """One pass, then as much time as the loop would sleep."""
        pause = await self.reconciler.reconcile(self.body(name, namespace))
        await self.clock.advance(pause.total_seconds())
        return pause

    async def run(self, seconds: float) -> None:
        """Passes until so much time is over."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.step()
        await settle()

    async def overload(self) -> None:
        """Bring a guard that is calm to Overloaded; commits stay slow."""
        await self.run(8)
        self.primary.commit_seconds = 2
        await self.run(20)

    async def run_all(self, seconds: float, *guards: tuple[str, str]) -> None:
        """A pass of each of these guards every second."""
        end = self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            for namespace, name in guards:
                await self.reconciler.reconcile(self.body(name, namespace))
            await self.clock.advance(1)
        await settle()

    async def close(self) -> None:
        for guard in self.children(DATABASE_GUARD):
            await self.reconciler.forget(guard["metadata"]["uid"])
