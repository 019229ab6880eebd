"""A world in memory as the invariant checker of the end-to-end tests sees a real one: from outside, as plain facts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from e2e.invariants.facts import (
    ClaimFacts,
    Key,
    MemberFacts,
    NewRead,
    Observation,
    PodFacts,
    QueryCut,
    ServerFacts,
    SessionFacts,
    SetFacts,
    SlotFacts,
)
from e2e.invariants.manifests import (
    key_of,
    parse_claim,
    parse_guard,
    parse_listed,
    parse_pod,
    parse_set,
    parse_snapshot,
)
from headroom.adapters.inmemory.kube_store import copy_json
from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.api.crdgen import build_crd
from headroom.api.kinds import KINDS
from headroom.model.snapshot import ANCHOR, SNAPSHOT_ANNOTATION
from headroom.ports.kube import (
    CLAIM,
    DATABASE_GUARD,
    DEPLOYMENT,
    ENDPOINT_SLICE,
    POD,
    REPLICA_SET,
    VOLUME_SNAPSHOT,
    Manifest,
)
from tests.unit.world import World

MEGABYTE = 1 << 20
KEPT_POSITIONS = 400


@dataclass(frozen=True, slots=True)
class Picture:
    """What the rules about single writes compare. `most_members`: as many may a set have that are not on their way
    out, one more than wanted while it replaces another, or is made for a snapshot. `sources` are members that were
    chosen for a snapshot, `snapshots` has the anchor of each. `is_late`: the queues are behind, so that workers are
    needed.
    """

    seen: Observation
    volumes: frozenset[Key]
    most_members: Mapping[Key, int]
    workers: Mapping[Key, int]
    is_late: bool
    sources: frozenset[Key] = frozenset()
    snapshots: Mapping[Key, str] = field(default_factory=dict)

    def find_pod(self, key: Key) -> PodFacts | None:
        return next((pod for pod in self.seen.pods if pod.key == key), None)

    def slots(self) -> frozenset[str]:
        return frozenset(slot.name for server in self.seen.servers.values() for slot in server.slots)


@dataclass
class Outside:
    """Looks at a world; it remembers positions and sessions, since servers in memory tell no ages."""

    world: World
    _positions: list[tuple[float, int]] = field(default_factory=list)
    _primary: MemoryServer | None = None
    _opened: dict[int, tuple[float, Any]] = field(default_factory=dict)
    _filled: dict[str, Manifest] = field(default_factory=dict)
    _active: dict[Key, dict[int, float]] = field(default_factory=dict)

    def take(self) -> Picture:
        """What there is now."""
        sets = [self._fill_defaults(item) for item in self.world.children(REPLICA_SET)]
        workers = {key_of(item): int(item["spec"]["replicas"]) for item in self.world.children(DEPLOYMENT)}
        most = {key_of(item): item["spec"]["replicas"] + item["spec"]["standbys"] + 1 for item in sets}
        claims = self.world.children(CLAIM)
        return Picture(
            self._observe([parse_set(item) for item in sets]),
            frozenset(map(key_of, claims)),
            most,
            workers,
            self._is_late(),
            frozenset(key_of(item) for item in claims if SNAPSHOT_ANNOTATION in item["metadata"]["annotations"]),
            {key_of(item): item["metadata"]["annotations"][ANCHOR] for item in self.world.children(VOLUME_SNAPSHOT)},
        )

    def _fill_defaults(self, item: Manifest) -> Manifest:
        """Once for each version: it costs more than all else here."""
        version = item["metadata"]["resourceVersion"]
        if version not in self._filled:
            self._filled = {version: fill_defaults(item)}
        return self._filled[version]

    def _observe(self, sets: list[SetFacts]) -> Observation:
        world, at = self.world, self.world.clock.monotonic()
        self._follow_primary(at)
        process = world.processes[-1] if world.processes else None
        is_led = process is not None and process.is_alive and not process.fence.is_shut
        pods = tuple(parse_pod(item) for item in world.children(POD))
        guards = tuple(parse_guard(item) for item in world.children(DATABASE_GUARD))
        members = {member.pod: member for member in self._members(pods, at)}
        now = Observation(
            at,
            world.clock.now().timestamp(),
            leader=process.holder if process is not None and is_led else "",
            sets=tuple(sets),
            guards=guards,
            pods=pods,
            claims=tuple(self._claims()),
            snapshots=tuple(filter(None, map(parse_snapshot, world.children(VOLUME_SNAPSHOT)))),
            listed=parse_listed(world.children(ENDPOINT_SLICE)),
            servers={} if world.primary.is_down else {guard.key: self._server(guard.key, at) for guard in guards},
            members=members,
        )
        return _with_clients(now, self._cuts(now))

    def _is_late(self) -> bool:
        return self.world.probes.numbers.late > 0

    def _claims(self) -> Iterator[ClaimFacts]:
        for item in self.world.children(CLAIM):
            claim = parse_claim(item)
            if claim is not None:
                yield claim

    def _follow_primary(self, at: float) -> None:
        primary = self.world.primary
        if primary is not self._primary:
            self._primary, self._positions = primary, []
        if not self._positions or self._positions[-1][1] != primary.lsn:
            self._positions = [*self._positions[-KEPT_POSITIONS:], (at, primary.lsn)]

    def _server(self, guard: Key, at: float) -> ServerFacts:
        primary = self.world.primary
        limit = int(primary.settings["max_slot_wal_keep_size"])
        return ServerFacts(
            guard,
            at,
            is_primary=not primary.is_in_recovery,
            system_id=primary.system_identifier,
            timeline=primary.timeline,
            slots=tuple(
                SlotFacts(name, slot.is_active, max(0, primary.lsn - slot.restart_lsn))
                for name, slot in primary.slots.items()
            ),
            synchronous=tuple(filter(None, primary.settings["synchronous_standby_names"].split(","))),
            slot_wal_limit=limit * MEGABYTE if limit >= 0 else None,
            forks=dict(primary.forks),
        )

    def _members(self, pods: tuple[PodFacts, ...], at: float) -> Iterator[MemberFacts]:
        for pod in pods:
            server = self.world.postgres.servers.get((pod.ip, 5432)) if pod.ip else None
            if server is None or server.is_down or server.is_hung:
                continue
            _, replayed = server.replay()
            yield MemberFacts(
                pod.key,
                at,
                in_recovery=server.is_in_recovery,
                system_id=server.system_identifier,
                timeline=server.timeline,
                is_streaming=server.is_streaming,
                position=replayed,
                staleness=self._measure_age(replayed, at),
                sessions=tuple(self._sessions(server, at)),
            )

    def _measure_age(self, replayed: int, at: float) -> float:
        """Seconds since the primary was seen to have what this one lacks."""
        return next((at - seen_at for seen_at, lsn in self._positions if lsn > replayed), 0.0)

    def _sessions(self, server: MemoryServer, at: float) -> Iterator[SessionFacts]:
        for session in server.sessions:
            # The session is kept beside its time, so that no other one gets its identity.
            opened_at, _ = self._opened.setdefault(id(session), (at, session))
            yield SessionFacts(id(session), at - opened_at, session.state)

    def _cuts(self, now: Observation) -> Iterator[QueryCut]:
        """Sessions that ran a query, and are gone from a server that runs on."""
        before, self._active = self._active, {}
        for pod in now.pods:
            member, service = now.member(pod), (pod.key[0], f"{pod.set_name}-read")
            if member is None:
                continue
            there = {session.pid for session in member.sessions}
            self._active[pod.key] = {each.pid: each.age for each in member.sessions if each.user == "active"}
            for pid, age in before.get(pod.key, {}).items():
                if pid not in there:
                    yield QueryCut(service, pod.ip, "57P01", "terminating connection", age)


def _with_clients(now: Observation, cuts: Iterator[QueryCut]) -> Observation:
    """The same, with what a client meets on each address behind a read Service."""
    reads = []
    for one in now.sets:
        for pod in now.serving(one):
            member = now.member(pod)
            if member is not None:
                reads.append(NewRead(one.service, pod.ip, member.staleness or 0.0))
    now_with = {name: getattr(now, name) for name in now.__dataclass_fields__}
    return Observation(**{**now_with, "reads": tuple(reads), "cuts": tuple(cuts)})


def fill_defaults(manifest: Manifest) -> Manifest:
    """The object with the defaults of its definition, as an API server stores it."""
    filled = copy_json(manifest)
    _fill(_schemas()[manifest["kind"]], filled)
    return filled


@cache
def _schemas() -> dict[str, Any]:
    return {
        kind.kind: build_crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]  # type: ignore[index,call-overload]
        for kind in KINDS
    }


def _fill(schema: Mapping[str, Any], value: dict[str, Any]) -> None:
    for name, part in schema.get("properties", {}).items():
        if name not in value and "default" in part:
            default = part["default"]
            value[name] = copy_json(default) if isinstance(default, dict) else default
        if isinstance(value.get(name), dict):
            _fill(part, value[name])
