"""The errors Headroom raises; adapters translate every driver's error into one of these at the edge.

::

    HeadroomError
     ├─ InvalidSpec          the user must change something; says which field and what to do
     │   └─ UnsupportedValue  a newer schema's value: hold
     ├─ Unavailable          the other side does not answer now; try again after `retry_after`
     │   ├─ KubeUnavailable
     │   │   └─ NotServed      the API server has no such kind now: unknown, never none
     │   ├─ PrimaryUnavailable
     │   └─ SignalUnavailable
     ├─ Refused              the other side answered and said no; trying again alone will not help
     ├─ Conflict             somebody else wrote first: gather again
     ├─ NotLeading           another process holds the lease, or may soon
     └─ InvariantBroken      a state that must not exist; nothing destructive follows

Waiting is not an error: policies return a value that says what they wait for.
"""

import errno
import os
import re
from datetime import timedelta

from headroom.reasons import Reason

DEFAULT_RETRY = timedelta(seconds=2)
_FAILED_CALL = re.compile(r"(?:\[Errno (\d+)\] )?Connect call failed \([^)]*\)|\[Errno (\d+)\] [^:;,()\[\]]*")
"""How Python writes the failure of a call: with the number, and an address that the message has anyway."""
_SOCKET_WORDS = {
    errno.ECONNREFUSED: "the connection was refused",
    errno.ECONNRESET: "the connection was cut",
    errno.EPIPE: "the connection was cut",
    errno.EHOSTUNREACH: "there is no route to the host",
    errno.ENETUNREACH: "there is no route to the network",
    errno.ETIMEDOUT: "there was no answer in time",
}


def describe_failure(error: BaseException) -> str:
    """What an error says on one line, with words in place of Python's notation for a call that failed."""

    def describe_call(found: re.Match[str]) -> str:
        number = found[1] or found[2] or getattr(error, "errno", None)
        if number is None:
            return "the connection failed"
        return _SOCKET_WORDS.get(int(number)) or os.strerror(int(number)).lower()

    return _FAILED_CALL.sub(describe_call, " ".join(str(error).split())) or type(error).__name__


class HeadroomError(Exception):
    """Base of all errors of this package."""


class InvalidSpec(HeadroomError):
    """A field of a resource cannot be acted on; `field` is its path, `remedy` one sentence of what to do."""

    reason = Reason.INVALID_SPEC

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}; {remedy}")
        self.field = field
        self.problem = problem
        self.remedy = remedy


class UnsupportedValue(InvalidSpec):
    """A field holds a value this version does not know, as a newer schema may allow: hold, change nothing."""

    reason = Reason.UNSUPPORTED_VALUE


class Unavailable(HeadroomError):
    """The other side does not answer; `reason` names the cause, `retry_after` is the earliest useful retry."""

    def __init__(self, message: str, *, reason: Reason, retry_after: timedelta = DEFAULT_RETRY) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class KubeUnavailable(Unavailable):
    """The API server timed out, was unreachable, or answered 429 or 5xx."""


class NotServed(KubeUnavailable):
    """The API server does not serve a kind: its definition is gone, or does not exist yet. Which objects exist is
    unknown.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, reason=Reason.KUBE_UNAVAILABLE)


class PrimaryUnavailable(Unavailable):
    """A PostgreSQL server cannot be used now; `reason` says why: unreachable, wrong password, and so on."""


class SignalUnavailable(Unavailable):
    """A measurement (queue, Prometheus, metrics API) could not be taken; it is Unknown, never zero."""


class Refused(HeadroomError):
    """The other side said no (403, quota, missing right); `reason` names it, the message says the fix."""

    def __init__(self, message: str, *, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class Conflict(HeadroomError):
    """The object changed, exists, or is gone since it was read: gather again."""


class InvariantBroken(HeadroomError):
    """A state that must not exist was seen; the pass ends and nothing destructive is sent."""


class NotLeading(HeadroomError):
    """This process may not write now: the lease is lost or too close to its end."""
