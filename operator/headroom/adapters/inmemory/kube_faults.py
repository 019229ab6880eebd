"""Faults for the Kubernetes API in memory: errors, lost responses, slow answers and a killed process, by plan."""

from collections.abc import Callable
from dataclasses import dataclass, field

from headroom.errors import KubeUnavailable
from headroom.ports.kube import Kind, ObjectRef
from headroom.reasons import Reason

READ_VERBS = frozenset({"get", "list", "resolve", "get_scale"})
WRITE = "write"
"""As a verb of a fault: every mutating call."""
OnWrite = Callable[[str], None]
"""Hears what a write was, once it has taken effect and before it is answered; may raise `Killed`."""


def ignore(_: str) -> None:
    """Nobody wants to know."""


class Killed(BaseException):
    """The process ends here: no code of ours may catch it, as with SIGKILL."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds until a call takes effect, and from there until its answer arrives."""

    request: float = 0.0
    response: float = 0.0


@dataclass(slots=True)
class Fault:
    """Raises `error` on the matching calls number `nth` to `nth + times - 1`, before or after their effect."""

    error: BaseException
    verb: str | None
    kind: Kind | None
    name: str | None
    nth: int
    times: int
    is_after: bool
    seen: int = 0

    def is_due(self, verb: str, ref: ObjectRef) -> bool:
        """Count a call if it matches; True when this one is to fail."""
        if not self._matches(verb, ref):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times

    def _matches(self, verb: str, ref: ObjectRef) -> bool:
        is_write = self.verb == WRITE and verb not in READ_VERBS
        return (
            (self.verb in (None, verb) or is_write) and self.kind in (None, ref.kind) and self.name in (None, ref.name)
        )


@dataclass(slots=True)
class Faults:
    """The plan; `latency` says how slow each call is."""

    latency: Callable[[str, ObjectRef], Latency] | None = None
    _plan: list[Fault] = field(default_factory=list)

    def fail(
        self,
        error: BaseException,
        *,
        verb: str | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        nth: int = 1,
        times: int = 1,
    ) -> Fault:
        """Refuse a call before it takes effect; verb `write` stands for every mutating call."""
        return self._add(Fault(error, verb, kind, name, nth, times, is_after=False))

    def lose_response(
        self,
        *,
        verb: str | None = WRITE,
        kind: Kind | None = None,
        name: str | None = None,
        nth: int = 1,
        times: int = 1,
        error: BaseException | None = None,
    ) -> Fault:
        """Let a call take effect, then raise an error (by default a timeout) in place of its answer."""
        lost = error or KubeUnavailable("the response was lost", reason=Reason.KUBE_UNAVAILABLE)
        return self._add(Fault(lost, verb, kind, name, nth, times, is_after=True))

    def kill(self, *, nth: int, is_after: bool, verb: str = WRITE) -> Fault:
        """End the process before or after the nth matching call."""
        return self._add(Fault(Killed(f"{verb} {nth}"), verb, None, None, nth, 1, is_after=is_after))

    def clear(self) -> None:
        """Forget the plan."""
        self._plan.clear()
        self.latency = None

    def due(self, verb: str, ref: ObjectRef) -> tuple[BaseException | None, BaseException | None]:
        """The errors to raise before and after the effect of this call."""
        hit = [fault for fault in self._plan if fault.is_due(verb, ref)]
        before = next((fault.error for fault in hit if not fault.is_after), None)
        after = next((fault.error for fault in hit if fault.is_after), None)
        return before, after

    def _add(self, fault: Fault) -> Fault:
        self._plan.append(fault)
        return fault
