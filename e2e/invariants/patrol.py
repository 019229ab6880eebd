"""Runs the checker beside a test: collects twice a second in a thread, and fails the test at its end.

`Patrol` lives as long as a process of the suite; each test gets a `Watch`, with a checker of its own.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from e2e.invariants.checker import Checker, Violation, describe
from e2e.invariants.facts import Observation
from e2e.invariants.kube import Kube
from e2e.invariants.samples import Witness, build_targets
from e2e.invariants.suspicion import Invariant
from e2e.lab import shop as objects
from e2e.lab.kubectl import PROCESS_LABEL, this_process
from e2e.lab.opening import Shop
from e2e.lab.results import Figure, at_most
from e2e.lab.waiting import wait_until

NAME = "witness"
SLEEP = ["python3", "-c", "import time\nwhile True: time.sleep(3600)"]
EVERY_SECONDS = 0.5
LINGER_SECONDS = 1.5
SETTLE_SECONDS = 60.0
"""How long the end of a test waits for what looks wrong to pass or to become a violation."""
KEPT_OBSERVATIONS = 240
MOST_TROUBLES = 5


@dataclass(slots=True)
class Watch:
    """One test's checker. `allowed` are invariants that the test breaks on purpose, each with the reason."""

    allowed: Mapping[Invariant, str] = field(default_factory=dict)
    linger_seconds: float = LINGER_SECONDS
    checker: Checker = field(default_factory=Checker)
    history: deque[Observation] = field(default_factory=lambda: deque(maxlen=KEPT_OBSERVATIONS))
    troubles: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, now: Observation) -> None:
        """Judge an observation and keep it for a while."""
        with self.lock:
            self.history.append(now)
            self.checker.observe(now)

    def violations(self, *which: Invariant) -> list[Violation]:
        """What was violated so far: of these invariants, or of all."""
        with self.lock:
            return [one for one in self.checker.violations if not which or one.invariant in which]

    def wait_violation(self, invariant: Invariant, *, timeout: float) -> Violation:
        """Wait until an invariant is violated."""
        return wait_until(
            f"{invariant} to be violated", lambda: next(iter(self.violations(invariant)), None), timeout=timeout
        )

    def wait_seen(self, *, timeout: float = 30) -> Observation:
        """Wait until the checker sees the primary and all members: a test breaks something only after that."""
        return wait_until("the checker to see the servers", self._find_seen, timeout=timeout)

    def settle(self) -> None:
        """Wait while something looks wrong that may still pass."""
        end = time.monotonic() + SETTLE_SECONDS
        while self.is_suspicious() and time.monotonic() < end:
            time.sleep(EVERY_SECONDS)

    def is_suspicious(self) -> bool:
        """Whether something looks wrong, besides what the test breaks on purpose."""
        with self.lock:
            return any(invariant not in self.allowed for invariant in self.checker.pending)

    def report(self) -> str:
        """What the test must not have done; empty if all held."""
        wrong = [one for one in self.violations() if one.invariant not in self.allowed]
        return "\n".join([*([describe(wrong)] if wrong else []), *self.troubles])

    def figures(self, name: str = "invariants_violated_count") -> dict[str, Figure]:
        """The count of violations, for a measurement that is no test."""
        return {name: at_most(len(self.violations()), 0, "violations")}

    def write(self, path: Path) -> None:
        """The last observations, one JSON line each."""
        with self.lock, path.open("w") as out:
            out.writelines(f"{json.dumps(flatten(one), default=str)}\n" for one in self.history)

    def _find_seen(self) -> Observation | None:
        with self.lock:
            now = self.history[-1] if self.history else None
        if now is None or not now.leader or not now.sets:
            return None
        is_seen = all(
            now.server(one.guard) and now.serving(one) and all(now.member(pod) for pod in now.pods_of(one))
            for one in now.sets
        )
        return now if is_seen else None


def flatten(now: Observation) -> dict[str, object]:
    """An observation with its keys as texts, without what is empty."""
    found = {key: value for key, value in asdict(now).items() if value}
    for name in ("listed", "servers", "members"):
        if name in found:
            found[name] = {"/".join(key): value for key, value in found[name].items()}
    return found


@dataclass(slots=True)
class Patrol:
    """The collectors of one process of the suite."""

    kube: Kube
    witness: Witness
    _watch: Watch | None = None
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @classmethod
    def begin(cls, shop: Shop) -> "Patrol":
        """Put the witness beside the shop's primary and begin to collect."""
        kubectl = shop.kubectl
        kubectl.apply(objects.app_pod(NAME, shop.worker_image, SLEEP, {}, node=shop.node))
        wait_until("the witness to run", lambda: _is_running(kubectl.get("pod", NAME)), timeout=60)
        command = ("kubectl", "-n", kubectl.namespace, "exec", "-i", NAME, "--", "python3", "/app/witness.py")
        patrol = cls(Kube((PROCESS_LABEL, this_process())).start(), Witness(command))
        patrol._thread = threading.Thread(target=patrol._go, name="patrol", daemon=True)
        patrol._thread.start()
        return patrol

    def watch(self, allowed: Mapping[Invariant, str], *, linger_seconds: float = LINGER_SECONDS) -> Watch:
        """A fresh checker, from now on."""
        self._watch = Watch(allowed, linger_seconds)
        return self._watch

    def relieve(self) -> None:
        """Judge no more until the next watch."""
        self._watch = None

    def end(self) -> None:
        """Stop collecting; the pod goes with its namespace."""
        self._done.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self.kube.stop()
        self.witness.stop()

    def _go(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            watch = self._watch
            try:
                self._look(watch)
            except Exception as error:  # noqa: BLE001  a checker that is broken must say so, and go on
                if watch is not None and len(watch.troubles) < MOST_TROUBLES:
                    watch.troubles.append(f"the checker itself failed: {error!r}")

    def _look(self, watch: Watch | None) -> None:
        kube, samples = self.kube.facts(), self.witness.samples.collect()
        now = Observation(time.monotonic(), time.time(), **kube, **samples)
        self.witness.aim(build_targets(now, watch.linger_seconds if watch else LINGER_SECONDS))
        if watch is not None:
            watch.observe(now)


@contextmanager
def watching(shop: Shop, *, is_wanted: bool) -> Iterator[Watch | None]:
    """Watch what is no test; None if that is not wanted, as where two more clients would disturb a measurement."""
    if not is_wanted:
        yield None
        return
    patrol = Patrol.begin(shop)
    try:
        yield patrol.watch({})
    finally:
        patrol.end()


def _is_running(pod: Mapping[str, object] | None) -> bool:
    status = (pod or {}).get("status") or {}
    return isinstance(status, Mapping) and status.get("phase") == "Running"


def parse_allowed(marks: Iterable[tuple[tuple[str, ...], str]]) -> dict[Invariant, str]:
    """What markers allow: names of invariants and the reason; ValueError for an unknown name and for no reason."""
    allowed = {}
    for names, why in marks:
        if not names or not why:
            message = "name the invariant and say why the test breaks it: breaks('never-synchronous', why='...')"
            raise ValueError(message)
        allowed.update({Invariant(name): why for name in names})
    return allowed
