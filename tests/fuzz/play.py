"""Plays one object in memory: some passes of its kind, its teardown, and what must hold after them in any case."""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

from headroom.adapters.inmemory.kube_store import copy_json
from headroom.errors import Conflict, HeadroomError, InvariantBroken, NotLeading
from headroom.ports.kube import (
    CLAIM,
    CONFIG_MAP,
    DATABASE_GUARD,
    DISRUPTION_BUDGET,
    ENDPOINT_SLICE,
    FINALIZER,
    POD,
    REPLICA_SET,
    SERVICE,
    WORKER_POOL,
    Kind,
    Manifest,
    ObjectRef,
)
from headroom.reconcilers.loop import Reconciler
from tests.fuzz.specs import find_ways, read_schema
from tests.manifests import NAMESPACE, make, make_deployment
from tests.unit.reconcilers.stepped import SteppedWorld

PASSES = 8
LIMIT = 32_768
"""Characters of a status in all: an object has to stay far below what the API server and etcd take."""
OURS: dict[str, Kind] = {kind.name: kind for kind in (DATABASE_GUARD, REPLICA_SET, WORKER_POOL)}
CHILDREN = (POD, CLAIM, SERVICE, CONFIG_MAP, DISRUPTION_BUDGET)
ELSEWHERE = "billing"


class FuzzWorld(SteppedWorld):
    """A namespace with a guard and a workload, another one beside it, and one object that somebody has made up."""

    def __init__(self, body: Manifest) -> None:
        super().__init__()
        self.add_guard()
        self._help(body)
        self.seed(make_deployment("mail", 2))
        for namespace in (NAMESPACE, ELSEWHERE):
            for kind in (SERVICE, CONFIG_MAP, POD):
                for name in ("store-read", "kubernetes", f"{body['metadata']['name']}-read"):
                    self.seed(make(kind, name, namespace, spec={}))
        self.body = self.cluster.seed(self._complete(body))
        if "status" in body:
            self.cluster.set_status(ObjectRef(OURS[body["kind"]], NAMESPACE, body["metadata"]["name"]), body["status"])
            self.body = self.read(ObjectRef(OURS[body["kind"]], NAMESPACE, body["metadata"]["name"]))
        self.ref = ObjectRef(OURS[body["kind"]], NAMESPACE, body["metadata"]["name"])
        self.before = self._copy()
        self.kube.writes.clear()

    def _help(self, body: Manifest) -> None:
        """Let references lead somewhere, so that a pass comes further than to what is missing."""
        spec = body["spec"]
        if not isinstance(spec, dict) or len(body["metadata"]["name"]) % 2:
            return
        if "databaseRef" in spec:
            spec["databaseRef"] = {"name": "store"}
        if isinstance(spec.get("connection"), dict):
            spec["connection"] |= {"host": "store-primary", "port": 5432, "database": "store"}
        for way in list(find_ways(spec)):
            if way and str(way[-1]).endswith("SecretRef"):
                parent: Any = spec
                for step in way[:-1]:
                    parent = parent[step]
                if isinstance(parent[way[-1]], dict):
                    parent[way[-1]]["name"] = "store-replication" if "replication" in str(way[-1]) else "store-monitor"

    def _complete(self, body: Manifest) -> Manifest:
        metadata = {**body["metadata"], "namespace": NAMESPACE, "finalizers": [FINALIZER]}
        return copy_json({**body, "metadata": metadata})

    def _copy(self) -> dict[ObjectRef, str]:
        return {ref: json.dumps(entry.manifest, sort_keys=True) for ref, entry in self.kube.store.entries.items()}

    @property
    def reconciler(self) -> Reconciler:
        return self.loops.reconcilers[self.ref.kind]

    async def make_passes(self) -> None:
        """Passes as the loop makes them, with the errors that it knows how to live with."""
        for _ in range(PASSES):
            await self.follow_guards()
            await self._survive(self.reconciler.reconcile(self.read(self.ref)))
            await self.pass_time(1.0)

    async def tear_down(self) -> None:
        """The same for the teardown."""
        self.cluster.delete(self.ref)
        for _ in range(3):
            await self._survive(self.reconciler.teardown(self.read(self.ref)))
            await self.pass_time(1.0)

    async def _survive(self, work: Any) -> None:
        try:
            await self.drive(work)
        except (InvariantBroken, NotLeading):
            raise
        except Conflict:
            pass
        except HeadroomError as error:
            raise AssertionError(f"a pass ended in {type(error).__name__}: {error}") from error

    def check(self) -> None:
        """Refused or a condition; a status within its bounds; nothing of others was touched."""
        status = self.read(self.ref).get("status") or {}
        assert any(entry["type"] == "Ready" for entry in status.get("conditions", ())), "no verdict"
        text = json.dumps(status, ensure_ascii=False)
        assert len(text) < LIMIT or "status" in self.body, f"a status of {len(text)} characters"
        assert not [part for part in iterate_texts(status) if has_control(part)], "control characters in status"
        assert not [event for event in self.telemetry.events if has_control(event.message)], "and in events"
        check_schema(status, read_schema(self.body["kind"])["status"])
        self._check_others()

    def _check_others(self) -> None:
        spec = self.body["spec"] if isinstance(self.body["spec"], dict) else {}
        after = self._copy()
        allowed = {self.ref, *self._find_played(spec)}
        changed = {ref for ref in self.before.keys() | after.keys() if self.before.get(ref) != after.get(ref)}
        for ref in changed - allowed:
            if ref.kind == ENDPOINT_SLICE or (ref.kind == POD and ref.name.startswith("mail-")):
                continue  # of the world's own controllers
            assert ref not in self.before, f"{ref} of somebody else was changed"
            owners = json.loads(after[ref])["metadata"].get("ownerReferences") or ()
            assert [owner["uid"] for owner in owners] == [self.body["metadata"]["uid"]], f"{ref} is not a child"
            assert ref.kind in CHILDREN, ref
            assert ref.namespace == NAMESPACE, ref
        for verb, ref in self.kube.writes:
            assert ref.namespace == NAMESPACE, (verb, ref)
            assert verb != "set_scale" or self.ref.kind == WORKER_POOL, (verb, ref)
        for slot in self.primary.slots:
            assert slot.startswith("hr_"), slot

    def _find_played(self, spec: dict[str, Any]) -> Iterator[ObjectRef]:
        """What this world's own controllers change, and the target of a pool."""
        yield ObjectRef(DATABASE_GUARD, NAMESPACE, "store")
        for ref in self.before:
            if ref.namespace == NAMESPACE and ref.kind.name in ("Deployment", "Pod", "EndpointSlice"):
                yield ref


def iterate_texts(value: Any) -> Iterator[str]:
    """Every text in a tree, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from iterate_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from iterate_texts(inner)


def has_control(text: str) -> bool:
    """Control, direction and line characters: they forge lines and hide words."""
    return any(unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs") for character in text)


def check_schema(value: Any, schema: dict[str, Any], where: str = "status") -> None:
    """Types and bounds of the schema: what breaks them the API server refuses, and the status stays as it was."""
    kind = schema.get("type")
    if kind == "string":
        assert isinstance(value, str), where
        assert len(value) <= schema.get("maxLength", LIMIT), f"{where} is too long"
        assert value in schema.get("enum", [value]), f"{where}: {value}"
    elif kind in ("integer", "number"):
        assert isinstance(value, int | float), f"{where}: {value!r}"
        assert not isinstance(value, bool), where
        assert kind == "number" or value == int(value), f"{where}: {value!r}"
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value), f"{where}: {value}"
    elif kind == "array":
        assert len(value) <= schema.get("maxItems", len(value)), f"{where} has too many entries"
        for number, inner in enumerate(value):
            check_schema(inner, schema["items"], f"{where}[{number}]")
    elif kind == "object":
        assert isinstance(value, dict), where
        for name, inner in value.items():
            known = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            assert known, f"{where}.{name} is not in the schema"
            check_schema(inner, known, f"{where}.{name}")
        assert set(schema.get("required", ())) <= value.keys(), where
