"""The floor of a warm activation: a standby gets the label of the read Service by hand, and a client reads from it.

The operator is told to leave the set alone meanwhile, so that the same Service, pods and client are measured.
"""

import time
from dataclasses import dataclass

from kubernetes import client

from e2e.invariants.kube import load_client
from e2e.lab.opening import Shop
from e2e.lab.prober import Prober
from e2e.lab.waiting import wait_until

ROLE = "headroom.dev/role"
UNLISTED_SECONDS = 1.5
"""The prober calls a server new after a second of silence, which begins once the proxies have dropped it."""


@dataclass(slots=True)
class LabelByHand:
    """Labels of one standby, written straight to the API server: a process for each write would be part of the time."""

    shop: Shop
    prober: Prober
    name: str

    def measure(self, times: int) -> list[float]:
        """Seconds from the PATCH to the first read, each time after the pod was out of the Service."""
        self._set_mode("Paused")
        try:
            return [self._join_and_leave() for _ in range(times)]
        finally:
            self._set_mode("Active")

    def _join_and_leave(self) -> float:
        [pod] = self.shop.replicas("standby")
        pod_name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        asked = time.time()
        self._label(pod_name, "serving")
        try:
            answered = wait_until(
                f"the first read of {address}", lambda: self.prober.first_after(address, asked), timeout=30
            )
        finally:
            self._label(pod_name, "standby")
        time.sleep(UNLISTED_SECONDS)
        return answered - asked

    def _label(self, pod: str, role: str) -> None:
        body = {"metadata": {"labels": {ROLE: role}}}
        client.CoreV1Api(load_client(None)).patch_namespaced_pod(pod, self.shop.kubectl.namespace, body)

    def _set_mode(self, mode: str) -> None:
        self.shop.kubectl.merge("dbrs", self.name, {"spec": {"mode": mode}})
        wait_until(f"the operator to see mode {mode}", lambda: self._is_seen(mode), timeout=30)

    def _is_seen(self, mode: str) -> bool:
        reason = self.shop.kubectl.condition("dbrs", self.name, "Ready").get("reason")
        return (reason == "Paused") is (mode == "Paused")
