"""The watches against a server on loopback: lists, events, breaks, and objects that went while nobody looked."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from e2e.invariants.kube import Kube

OWNER = ("tests.headroom.dev/process", "main")


@dataclass
class Api:
    """Lists of each path, and the events of the pods' watch; None ends a watch, a number refuses the next request."""

    lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    events: "Queue[dict[str, Any] | None]" = field(default_factory=Queue)
    asked: list[str] = field(default_factory=list)
    is_down: bool = False
    is_over: threading.Event = field(default_factory=threading.Event)


def handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = parse_qs(address.query)
            api.asked.append(f"{address.path} {query.get('resourceVersion', [''])[0]}")
            if api.is_down:
                self.send_error(503)
            elif "watch" not in query:
                body = {"metadata": {"resourceVersion": "10"}, "items": api.lists.get(address.path, [])}
                self.send(json.dumps(body).encode())
            else:
                self.stream(address.path)

        def send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def stream(self, path: str) -> None:
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            while path.endswith("/pods") and (event := api.events.get()) is not None:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
            if not path.endswith("/pods"):
                api.is_over.wait(10)
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    return Handler


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[Api, Kube]]:
    api = Api()
    api.lists["/api/v1/namespaces"] = [{"metadata": {"name": "shop", "labels": dict([OWNER])}}]
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(api))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    config = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    kube = Kube(OWNER, kubeconfig=str(path), retry_seconds=0.02).start()
    yield api, kube
    kube.stop()
    api.is_over.set()
    for _ in range(3):
        api.events.put(None)
    server.shutdown()
    thread.join()
    server.server_close()
    kube.join()


def pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "resourceVersion": str(version)}, "spec": {}}


def names(kube: Kube) -> list[str]:
    return sorted(one.key[1] for one in kube.facts()["pods"])


def wait(look: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not look():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_events_are_taken_as_they_come(api: tuple[Api, Kube]) -> None:
    server, kube = api
    server.events.put({"type": "ADDED", "object": pod("a", 11)})
    server.events.put({"type": "ADDED", "object": pod("b", 12)})
    wait(lambda: names(kube) == ["a", "b"])
    server.events.put({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "13"}}})
    server.events.put({"type": "DELETED", "object": pod("a", 14)})
    wait(lambda: names(kube) == ["b"])


def test_a_watch_that_ends_continues_from_where_it_was(api: tuple[Api, Kube]) -> None:
    server, kube = api
    server.events.put({"type": "ADDED", "object": pod("a", 11)})
    server.events.put(None)
    server.events.put({"type": "ADDED", "object": pod("b", 12)})
    wait(lambda: names(kube) == ["a", "b"])
    assert [line for line in server.asked if "/pods" in line] == ["/api/v1/pods ", "/api/v1/pods 10", "/api/v1/pods 11"]


def test_a_version_that_is_gone_begins_with_a_list(api: tuple[Api, Kube]) -> None:
    server, kube = api
    server.events.put({"type": "ADDED", "object": pod("a", 11)})
    wait(lambda: names(kube) == ["a"])
    server.lists["/api/v1/pods"] = [pod("b", 20)]
    server.events.put({"type": "ERROR", "object": {"code": 410}})
    wait(lambda: names(kube) == ["b"])


def test_a_server_that_is_down_is_asked_again(api: tuple[Api, Kube]) -> None:
    server, kube = api
    wait(lambda: "/api/v1/pods 10" in server.asked)
    server.is_down = True
    server.events.put(None)
    wait(lambda: server.asked.count("/api/v1/pods ") >= 3)
    server.lists["/api/v1/pods"] = [pod("c", 30)]
    server.is_down = False
    wait(lambda: names(kube) == ["c"])
