"""Whose pass an event of the watches starts early, and whose loop it ends."""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headroom.model.replica import ABANDON_ANNOTATION, SET_LABEL
from headroom.policy.databaseguard.identity import ACCEPT_ANNOTATION
from headroom.policy.target_conflict import TargetId
from headroom.ports.kube import (
    HORIZONTAL_POD_AUTOSCALER,
    OUR_KINDS,
    REPLICA_SET,
    SET_CHILDREN,
    WORKER_POOL,
    WORKLOADS,
    Kind,
    ObjectRef,
)
from headroom.reconcilers.loop import LevelLoops
from headroom.reconcilers.namespace_view import target_id

ASKING_ANNOTATIONS = (ABANDON_ANNOTATION, ACCEPT_ANNOTATION)
"""By which a person asks an object of ours for something. Other annotations, and labels, are read by no pass."""
LONGEST_ANSWER = 64
READY_AT_MOST_EVERY_SECONDS = 1.0
"""A rollout changes the count of ready workers many times a second, and a pass asks the queue's database."""


@dataclass(frozen=True, slots=True)
class Target:
    """A scale target and its namespace."""

    namespace: str
    id: TargetId


@dataclass(slots=True)
class TargetIndex:
    """The pools of each target."""

    _pools: dict[Target, set[ObjectRef]] = field(default_factory=dict)
    _targets: dict[ObjectRef, Target] = field(default_factory=dict)

    def put(self, pool: ObjectRef, target: Target | None) -> None:
        """Replace what a pool targets; None: nothing, or the pool is gone."""
        old = self._targets.pop(pool, None)
        if old is not None:
            self._pools[old].discard(pool)
            if not self._pools[old]:
                del self._pools[old]
        if target is not None:
            self._targets[pool] = target
            self._pools.setdefault(target, set()).add(pool)

    def find(self, target: Target) -> tuple[ObjectRef, ...]:
        """The pools that have this target."""
        return tuple(self._pools.get(target, ()))


@dataclass(slots=True)
class Wakes:
    """Takes each event of the watches; `uid`s are remembered until their DELETED, so that an echo wakes nobody."""

    loops: LevelLoops
    _targets: TargetIndex = field(default_factory=TargetIndex)
    _known: dict[str, Hashable] = field(default_factory=dict)
    _ready_reported_at: dict[str, float] = field(default_factory=dict)

    async def hear(self, kind: Kind, body: Mapping[str, Any], *, is_gone: bool = False) -> None:
        """Wake whom this event concerns; end the loop of an object of ours that goes."""
        if kind in OUR_KINDS:
            await self._hear_ours(kind, body, is_gone=is_gone)
        elif kind in SET_CHILDREN:
            self._hear_child(body)
        elif kind in WORKLOADS:
            self._hear_workload(kind, body, is_gone=is_gone)
        elif kind == HORIZONTAL_POD_AUTOSCALER:
            self._hear_autoscaler(body, is_gone=is_gone)

    async def hear_gone(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """An object vanished, and no watch said so."""
        await self.hear(kind, body, is_gone=True)

    async def _hear_ours(self, kind: Kind, body: Mapping[str, Any], *, is_gone: bool) -> None:
        metadata = body["metadata"]
        ref = ObjectRef(kind, metadata["namespace"], metadata["name"])
        # Before any wake, so that a workload's event finds the pool by its present target.
        if kind == WORKER_POOL:
            # Another pool of this name may have come before the news that this one is gone.
            current = self.loops.cache.get(ref) if is_gone else body
            self._targets.put(ref, None if current is None else _target_of_pool(current))
        annotations = metadata.get("annotations") or {}
        asked = tuple(str(annotations.get(name, ""))[:LONGEST_ANSWER] for name in ASKING_ANNOTATIONS)
        news = metadata.get("generation"), asked
        is_news = self._is_news(metadata["uid"], news, is_gone=is_gone)
        if is_gone:
            await self.loops.forget(ref, metadata["uid"])
        elif metadata.get("deletionTimestamp"):
            self.loops.end(metadata["uid"])
        elif is_news:
            self.loops.wake(ref)

    def _hear_child(self, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        owner = (metadata.get("labels") or {}).get(SET_LABEL)
        if owner:
            self.loops.wake(ObjectRef(REPLICA_SET, metadata["namespace"], owner))

    def _hear_workload(self, kind: Kind, body: Mapping[str, Any], *, is_gone: bool) -> None:
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        group = kind.api_version.rpartition("/")[0]
        pools = self._targets.find(Target(metadata["namespace"], TargetId(group, kind.name, metadata["name"])))
        asked = spec.get("replicas"), metadata.get("deletionTimestamp")
        uid, ready = metadata["uid"], status.get("readyReplicas", 0)
        is_asked_again = self._is_news(uid, asked, is_gone=is_gone)
        is_news = self._is_news(f"{uid}/ready", ready, is_gone=is_gone)
        if is_gone or is_asked_again or (is_news and pools and self._may_report_ready(uid)):
            self._wake(pools)
        if is_gone:
            self._ready_reported_at.pop(uid, None)

    def _may_report_ready(self, uid: str) -> bool:
        now = self.loops.clock.monotonic()
        if now - self._ready_reported_at.get(uid, float("-inf")) < READY_AT_MOST_EVERY_SECONDS:
            return False
        self._ready_reported_at[uid] = now
        return True

    def _hear_autoscaler(self, body: Mapping[str, Any], *, is_gone: bool) -> None:
        metadata = body["metadata"]
        target = Target(metadata["namespace"], target_id(body["spec"]["scaleTargetRef"]))
        before = self._known.get(metadata["uid"])
        if not self._is_news(metadata["uid"], target, is_gone=is_gone):
            return
        self._wake(self._targets.find(target))
        # The pools of the target that the autoscaler has left are free again.
        if isinstance(before, Target):
            self._wake(self._targets.find(before))

    def _is_news(self, uid: str, news: Hashable, *, is_gone: bool) -> bool:
        if is_gone:
            self._known.pop(uid, None)
            return True
        if uid in self._known and self._known[uid] == news:
            return False
        self._known[uid] = news
        return True

    def _wake(self, refs: Iterable[ObjectRef]) -> None:
        for ref in refs:
            self.loops.wake(ref)


def _target_of_pool(body: Mapping[str, Any]) -> Target | None:
    spec: Mapping[str, Any] = body.get("spec") or {}
    ref = (spec.get("workers") or {}).get("targetRef")
    return None if ref is None else Target(body["metadata"]["namespace"], target_id(ref))
