"""The API server over one `kubectl proxy`: for what is asked many times a second."""

import json
import re
import subprocess
import urllib.request
from types import TracebackType
from typing import Any, Self

Samples = dict[str, list[tuple[dict[str, str], float]]]
LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([^ ]+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class ApiProxy:
    """`kubectl proxy` on a free loopback port for as long as the block lasts."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["kubectl", "proxy", "--port=0", "--address=127.0.0.1"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, f"kubectl proxy did not start: {line}"
        self._base = f"http://127.0.0.1:{found[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def read(self, path: str, *, timeout: float = 5.0) -> str:
        """GET a path of the API server; raises OSError when it does not answer."""
        with urllib.request.urlopen(self._base + path, timeout=timeout) as answer:
            text: str = answer.read().decode()
            return text

    def read_json(self, path: str) -> dict[str, Any]:
        """GET a JSON object."""
        found: dict[str, Any] = json.loads(self.read(path))
        return found

    def metrics(self, namespace: str, pod: str, port: int = 8080) -> Samples:
        """The Prometheus metrics of a pod."""
        return parse_metrics(self.read(f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics"))


def parse_metrics(text: str) -> Samples:
    """Prometheus' text format as {name: [(labels, value)]}."""
    samples: Samples = {}
    for line in text.splitlines():
        found = LINE.match(line)
        if found and not line.startswith("#"):
            labels = dict(LABEL.findall(found[2] or ""))
            samples.setdefault(found[1], []).append((labels, float(found[3])))
    return samples
