"""Clients of the read Service that count: who answered first and when, what failed, what was too old, what was cut."""

import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from e2e.lab import shop as objects
from e2e.lab.kubectl import Manifest, Stream, follow_logs
from e2e.lab.opening import Shop
from e2e.lab.waiting import wait_until

NAME = "prober"
LONGEST_SECONDS = 7200
STAMPS = "headroom_stamp"


@dataclass(slots=True)
class Prober:
    """A pod that knocks on the read Service while the block lasts, and a row on the primary stamped each second.

    Times are epoch seconds; `totals` are the pod's last counts: reads, errors, too_old, cut.
    """

    shop: Shop
    totals: Manifest = field(default_factory=dict)
    _first: list[tuple[float, str]] = field(default_factory=list)
    _logs: Stream | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._begin_stamps()
        login = objects.login(objects.READ_SERVICE, objects.READER)
        command = ["python3", "/app/prober.py", "--duration", str(LONGEST_SECONDS)]
        self.shop.kubectl.apply(objects.app_pod(NAME, self.shop.worker_image, command, login, node=self.shop.node))
        wait_until("the prober to run", self._is_running, timeout=60)
        self._logs = follow_logs(self.shop.kubectl.namespace, NAME, self._on_line)
        wait_until("the prober's first count", lambda: self.totals, timeout=30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._logs is not None:
            self._logs.stop()
        self.shop.kubectl.delete("pod", NAME)

    def first_after(self, address: str, moment: float) -> float | None:
        """When a server first answered after a moment; None while it has not."""
        return min((at for at, who in self._first if who == address and at >= moment), default=None)

    def _is_running(self) -> bool:
        pod = self.shop.kubectl.get("pod", NAME) or {}
        return bool((pod.get("status") or {}).get("phase") == "Running")

    def _on_line(self, line: Manifest) -> None:
        if "address" in line:
            self._first.append((line["t"], line["address"]))
        else:
            self.totals = line

    def _begin_stamps(self) -> None:
        self.shop.sql(
            f"CREATE TABLE IF NOT EXISTS {STAMPS} (at timestamptz); "
            f"INSERT INTO {STAMPS} SELECT clock_timestamp() WHERE NOT EXISTS (SELECT FROM {STAMPS})"
        )
        threading.Thread(target=self._keep_stamping, daemon=True).start()

    def _keep_stamping(self) -> None:
        while not self._done.wait(1.0):
            self.shop.sql(f"UPDATE {STAMPS} SET at = clock_timestamp()")
