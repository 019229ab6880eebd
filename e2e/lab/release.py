"""The operator as a Helm release."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.lab.kubectl import CommandFailed, Kubectl, Manifest, condition_of, run
from e2e.lab.waiting import wait_until

CHART = Path(__file__).parents[2] / "charts/headroom"
KINDS = ("databaseguards", "replicasets", "workerpools")
LEADER = "headroom.dev/leader=true"
FETCH = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/metrics').read().decode())"
LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Release:
    """A Helm release of the chart in a namespace of its own."""

    image: str
    name: str = "headroom"
    namespace: str = "headroom"

    @property
    def kubectl(self) -> Kubectl:
        """kubectl in the release's namespace."""
        return Kubectl(self.namespace)

    def install(self, values: Mapping[str, str] | None = None, *, timeout: float = 90) -> None:
        """`helm upgrade --install` with the image that was loaded, and wait until the operator is Ready."""
        repository, _, tag = self.image.rpartition(":")
        settings = {
            "image.repository": repository,
            "image.tag": tag,
            "image.pullPolicy": "IfNotPresent",
            **(values or {}),
        }
        flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        self.kubectl.ensure_namespace({"pod-security.kubernetes.io/enforce": "restricted"})
        self.remove_foreign_definitions()
        self.remove_unfinished()
        wait = ("--wait", f"--timeout={timeout:.0f}s")
        command = ("helm", "upgrade", "--install", self.name, str(CHART), "-n", self.namespace, *flags, *wait)
        run(command, timeout=timeout + 30)

    def remove_unfinished(self) -> None:
        """Delete what an installation left that was interrupted: Helm upgrades no release that was never deployed."""
        try:
            status = json.loads(run(("helm", "status", self.name, "-n", self.namespace, "-o", "json")))
        except CommandFailed:
            return
        if status["info"]["status"] != "deployed":
            run(("helm", "uninstall", self.name, "-n", self.namespace, "--no-hooks", "--wait"), timeout=120)

    def remove_foreign_definitions(self) -> None:
        """Delete CRDs of ours that were not made by Helm: a laboratory's other tests apply them by hand."""
        for kind in KINDS:
            found = self.kubectl.get("crd", f"{kind}.headroom.dev")
            if found and found["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != "Helm":
                self.kubectl.delete("crd", f"{kind}.headroom.dev")

    def uninstall(self) -> str:
        """`helm uninstall`, hooks included; returns what it prints, with the hook's log, which Helm logs itself."""
        command = f"helm uninstall {self.name} -n {self.namespace} --wait --timeout=180s 2>&1"
        return run(("sh", "-c", command), timeout=200)

    def pods(self) -> list[Manifest]:
        """The operator's pods."""
        return self.kubectl.list("pods", "app.kubernetes.io/name=headroom")

    def leader(self) -> Manifest | None:
        """The pod that leads, when there is exactly one that is Ready."""
        leaders = [
            pod for pod in self.kubectl.list("pods", LEADER) if condition_of(pod, "Ready").get("status") == "True"
        ]
        return leaders[0] if len(leaders) == 1 else None

    def wait_leader(self, *, timeout: float = 60) -> Manifest:
        """Wait until one pod leads."""
        return wait_until("one operator pod to lead", self.leader, timeout=timeout)

    def replace_restarted(self) -> None:
        """Delete the operator's pods that were killed before: the kubelet starts those again ever later."""
        restarted = [pod["metadata"]["name"] for pod in self.pods() if _count_restarts(pod)]
        if restarted:
            self.kubectl("delete", "pod", *restarted, "--wait=true", "--timeout=60s", timeout=70)
            self.kubectl("rollout", "status", f"deployment/{self.name}", "--timeout=90s", timeout=100)
            self.wait_leader()

    def samples(self, metric: str) -> list[tuple[dict[str, str], float]]:
        """The leader's series of a metric: labels and value."""
        leader = self.wait_leader()["metadata"]["name"]
        text = self.kubectl("exec", leader, "--", "python3", "-c", FETCH)
        series = re.finditer(rf"^{metric}\{{([^}}]*)\}} (\S+)$", text, re.MULTILINE)
        return [(dict(LABEL.findall(found[1])), float(found[2])) for found in series]

    def logs(self) -> str:
        """What all pods of the operator logged lately."""
        return "".join(
            f"--- {pod['metadata']['name']}\n" + self.kubectl("logs", pod["metadata"]["name"], "--tail=80")
            for pod in self.pods()
        )


def _count_restarts(pod: Manifest) -> int:
    return sum(container["restartCount"] for container in pod["status"].get("containerStatuses", []))
