"""Follows Kubernetes objects by watches of its own: not through the operator, and not by a process for each kind."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import config

from e2e.invariants.facts import GuardFacts, Key
from e2e.invariants.manifests import (
    key_of,
    parse_claim,
    parse_guard,
    parse_listed,
    parse_pod,
    parse_set,
    parse_snapshot,
)

Manifest = dict[str, Any]
HEADROOM = "/apis/headroom.dev/v1alpha1"
PATHS: Mapping[str, str] = {
    "namespaces": "/api/v1/namespaces",
    "pods": "/api/v1/pods",
    "claims": "/api/v1/persistentvolumeclaims",
    "snapshots": "/apis/snapshot.storage.k8s.io/v1/volumesnapshots",
    "slices": "/apis/discovery.k8s.io/v1/endpointslices",
    "sets": f"{HEADROOM}/replicasets",
    "guards": f"{HEADROOM}/databaseguards",
    "leases": "/apis/coordination.k8s.io/v1/namespaces/{operator}/leases",
}
WATCH_SECONDS = 240


class ListFailed(Exception):
    """The API server did not answer a list or watch as hoped; the next try begins with a list."""


BROKEN = (ListFailed, urllib3.exceptions.HTTPError, OSError, ValueError, KeyError)
"""What a server that stops, restarts or speaks nonsense causes: list again."""


@dataclass(slots=True)
class Objects:
    """The objects of one kind, as its watch has left them; a thread writes, others read copies."""

    items: dict[Key, Manifest] = field(default_factory=dict)
    changed_at: dict[Key, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_listed: bool = False

    def replace(self, items: list[Manifest]) -> None:
        """Take a list."""
        with self.lock:
            self.is_listed = True
            old, self.items = self.items, {key_of(item): item for item in items}
            now = time.monotonic()
            for key, item in self.items.items():
                if _version(old.get(key)) != _version(item):
                    self.changed_at[key] = now

    def take(self, event: Manifest) -> None:
        """Take an event of a watch."""
        item = event["object"]
        if event["type"] == "BOOKMARK":
            return
        with self.lock:
            key = key_of(item)
            if event["type"] == "DELETED":
                self.items.pop(key, None)
            else:
                self.items[key] = item
                self.changed_at[key] = time.monotonic()

    def all(self) -> list[Manifest]:
        """The objects of now."""
        with self.lock:
            return list(self.items.values())


def _version(item: Manifest | None) -> str | None:
    return item["metadata"].get("resourceVersion") if item else None


@dataclass(slots=True)
class Kube:
    """Watches of all kinds, one thread each. `owner` is the label that this process puts on namespaces it makes."""

    owner: tuple[str, str]
    operator: str = "headroom"
    kubeconfig: str | None = None
    retry_seconds: float = 1.0
    objects: dict[str, Objects] = field(default_factory=lambda: {kind: Objects() for kind in PATHS})
    _known_guards: dict[Key, GuardFacts] = field(default_factory=dict)
    _done: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _base: str = ""
    _headers: dict[str, str] = field(default_factory=dict)
    _pool: urllib3.PoolManager | None = None

    def start(self) -> "Kube":
        """Begin to watch on the cluster that `kubeconfig` names, else the variable KUBECONFIG."""
        client = load_client(self.kubeconfig)
        self._headers = {"accept": "application/json"}
        client.update_params_for_auth(self._headers, [], ["BearerToken"], "", "GET", None)
        self._base, self._pool = client.configuration.host.rstrip("/"), client.rest_client.pool_manager
        for kind in PATHS:
            thread = threading.Thread(target=self._follow, args=(kind,), name=f"watch-{kind}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stop(self) -> None:
        """Begin nothing new; a watch under way ends with its connection."""
        self._done.set()

    def join(self) -> None:
        """Wait until every watch has ended; its server has to end it, or `stop` must have come first."""
        for thread in self._threads:
            thread.join(timeout=10)
        if self._pool is not None:
            self._pool.clear()

    def namespaces(self) -> set[str]:
        """The namespaces that this process made."""
        label, value = self.owner
        found = self.objects["namespaces"].all()
        return {item["metadata"]["name"] for item in found if item["metadata"].get("labels", {}).get(label) == value}

    def facts(self) -> dict[str, Any]:
        """The parts of an observation that Kubernetes tells."""
        ours = self.namespaces()
        sets, pods, claims, guards, slices, snapshots = (
            [item for item in self.objects[kind].all() if item["metadata"].get("namespace") in ours]
            for kind in ("sets", "pods", "claims", "guards", "slices", "snapshots")
        )
        taken = tuple(snapshot for item in snapshots if (snapshot := parse_snapshot(item)) is not None)
        leader, renewed_at = self._find_leader()
        return {
            "leader": leader,
            "renewed_at": renewed_at,
            "sets": tuple(parse_set(item) for item in sets),
            "guards": self._keep_guards(ours, [parse_guard(item) for item in guards]),
            "pods": tuple(parse_pod(item) for item in pods),
            "claims": tuple(claim for item in claims if (claim := parse_claim(item)) is not None),
            "snapshots": taken if self.objects["snapshots"].is_listed else None,
            "listed": parse_listed(slices),
        }

    def _keep_guards(self, ours: set[str], there: list[GuardFacts]) -> tuple[GuardFacts, ...]:
        """Guards that are gone stay known while their namespace lives: their primary may still hold what is ours."""
        gone = {
            key: GuardFacts(guard.key, guard.host, guard.port, guard.database, is_ready=False, is_gone=True)
            for key, guard in self._known_guards.items()
            if key[0] in ours
        }
        self._known_guards = {**gone, **{guard.key: guard for guard in there}}
        return tuple(self._known_guards.values())

    def _find_leader(self) -> tuple[str, float | None]:
        """Who holds a lease that was renewed within its duration, and when that was seen."""
        leases, now = self.objects["leases"], time.monotonic()
        for item in leases.all():
            spec, seen = item.get("spec") or {}, leases.changed_at.get(key_of(item), 0.0)
            if spec.get("holderIdentity") and now - seen <= float(spec.get("leaseDurationSeconds") or 0):
                return str(spec["holderIdentity"]), seen
        return "", None

    def _follow(self, kind: str) -> None:
        path = PATHS[kind].format(operator=self.operator)
        while not self._done.is_set():
            with contextlib.suppress(*BROKEN):
                version = self._list(kind, path)
                while not self._done.is_set():
                    version = self._watch(kind, path, version)
            self._done.wait(self.retry_seconds)

    def _list(self, kind: str, path: str) -> str:
        response = self._get(path, {}, seconds=30)
        try:
            body = json.loads(response.read())
        finally:
            response.release_conn()
        self.objects[kind].replace(body["items"])
        return str(body["metadata"]["resourceVersion"])

    def _watch(self, kind: str, path: str, version: str) -> str:
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        response = self._get(path, query, seconds=WATCH_SECONDS + 20)
        try:
            for line in read_lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ListFailed(str(event["object"]))
                self.objects[kind].take(event)
                version = event["object"]["metadata"]["resourceVersion"]
                if self._done.is_set():
                    break
        finally:
            response.close()
        return version

    def _get(self, path: str, query: Mapping[str, str], *, seconds: float) -> urllib3.BaseHTTPResponse:
        assert self._pool is not None
        timeout = urllib3.Timeout(connect=5, read=seconds)
        url = f"{self._base}{path}?{urlencode(query)}"
        response = self._pool.request(
            "GET", url, headers=self._headers, preload_content=False, timeout=timeout, retries=False
        )
        if response.status != 200:
            response.close()
            raise ListFailed(f"{path}: {response.status}")
        return response


load_client: Callable[..., Any] = config.new_client_from_config


def read_lines(response: urllib3.BaseHTTPResponse) -> Any:
    """The lines of a stream as they come."""
    pending = b""
    for part in response.stream(65536):
        *lines, pending = (pending + part).split(b"\n")
        yield from (line for line in lines if line)
