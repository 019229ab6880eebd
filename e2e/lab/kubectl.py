"""kubectl as a person would use it, with JSON in and out."""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]
DEFAULT_TIMEOUT = 60.0
PROCESS_LABEL = "tests.headroom.dev/process"


class CommandFailed(AssertionError):
    """A command ended with an error; the message holds what it printed."""


def this_process() -> str:
    """The name of this process among those that run the suite side by side."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


def run(command: Sequence[str], *, stdin: str | None = None, timeout: float = DEFAULT_TIMEOUT) -> str:
    """Run a command and return what it printed; raises CommandFailed with both of its outputs."""
    done = subprocess.run(list(command), input=stdin, text=True, capture_output=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}\n-> exit {done.returncode}\n{done.stdout}{done.stderr}".strip())
    return done.stdout


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl bound to one namespace of the cluster that KUBECONFIG names."""

    namespace: str

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = DEFAULT_TIMEOUT) -> str:
        """Run `kubectl -n NAMESPACE ARGUMENTS...`."""
        return run(("kubectl", "-n", self.namespace, *arguments), stdin=stdin, timeout=timeout)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects as one list."""
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def get(self, kind: str, name: str) -> Manifest | None:
        """An object, or None when it is not there."""
        text = self("get", kind, name, "-o", "json", "--ignore-not-found")
        found: Manifest | None = json.loads(text) if text else None
        return found

    def list(self, kind: str, selector: str = "") -> list[Manifest]:
        """Objects of a kind, by label selector."""
        wanted = ("-l", selector) if selector else ()
        items: list[Manifest] = json.loads(self("get", kind, *wanted, "-o", "json"))["items"]
        return items

    def delete(self, *what: str, timeout: float = 120.0) -> None:
        """Delete and wait; what is gone already is fine."""
        self("delete", *what, "--ignore-not-found", "--wait=true", f"--timeout={timeout:.0f}s", timeout=timeout + 10)

    def ensure_namespace(self, labels: Mapping[str, str] | None = None) -> None:
        """Create the namespace unless it is there; its label says which process of the suite it belongs to."""
        metadata = {"name": self.namespace, "labels": {**(labels or {}), PROCESS_LABEL: this_process()}}
        self("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))

    def scale(self, what: str, replicas: int) -> None:
        """`kubectl scale`."""
        self("scale", what, f"--replicas={replicas}")

    def merge(self, kind: str, name: str, patch: Mapping[str, Any]) -> None:
        """A merge patch; None takes a field away."""
        self("patch", kind, name, "--type=merge", "-p", json.dumps(patch))

    def condition(self, kind: str, name: str, type_: str) -> Manifest:
        """A condition of an object, or an empty dict."""
        return condition_of(self.get(kind, name), type_)


def condition_of(body: Mapping[str, Any] | None, type_: str) -> Manifest:
    """A condition in an object's status, or an empty dict."""
    conditions = ((body or {}).get("status") or {}).get("conditions", [])
    return next((dict(entry) for entry in conditions if entry["type"] == type_), {})


@dataclass(slots=True)
class Stream:
    """A process whose output is a stream of JSON texts; each is handed to `on_item` from a thread of its own."""

    command: Sequence[str]
    on_item: Callable[[Manifest], None]
    _process: "subprocess.Popen[str] | None" = None
    _thread: threading.Thread | None = field(default=None)

    def start(self) -> "Stream":
        """Start the process and the reading thread."""
        self._process = subprocess.Popen(
            list(self.command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ.copy()
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the process by its handle."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
        if self._thread is not None:
            self._thread.join(timeout=10)

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for item in parse_stream(iter(lines.readline, "")):
                self.on_item(item)


def parse_stream(lines: Iterator[str]) -> Iterator[Manifest]:
    """JSON objects out of lines: one a line, or one over many lines; other lines are passed over."""
    decoder, pending = json.JSONDecoder(), ""
    for line in lines:
        if not pending and not line.startswith("{"):
            continue
        pending += line
        try:
            item, end = decoder.raw_decode(pending)
        except json.JSONDecodeError:
            continue
        pending = pending[end:].lstrip()
        yield item


def watch(namespace: str, kind: str, on_item: Callable[[Manifest], None], selector: str = "") -> Stream:
    """Follow objects of a kind: `on_item` gets `{type, object}` for each change."""
    wanted = ("-l", selector) if selector else ()
    command = ("kubectl", "-n", namespace, "get", kind, *wanted, "-o", "json", "--watch", "--output-watch-events")
    return Stream(command, on_item).start()


def follow_logs(namespace: str, what: str, on_item: Callable[[Manifest], None]) -> Stream:
    """Follow the JSON lines of a pod's log."""
    return Stream(("kubectl", "-n", namespace, "logs", "-f", "--tail=-1", what), on_item).start()
