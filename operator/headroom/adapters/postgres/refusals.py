"""Servers whose answers were refused: each is asked again after a pause that grows, whoever asks.

A login costs both sides more than an answer does, and what broke a bound or made no sense rarely does better at once.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from headroom.errors import HeadroomError, PrimaryUnavailable
from headroom.model.database import ConnectionTarget
from headroom.reasons import Reason

FIRST_SECONDS, LONGEST_SECONDS = 10.0, 60.0
"""The first pause is that after a refused password; it doubles with each refusal."""
FORGOTTEN_SECONDS = 300.0
"""Without another refusal."""
MOST_REFUSALS = 4096
_Key = tuple[str, str, int, str, int]


@dataclass(frozen=True, slots=True)
class _Refusal:
    message: str
    at: float
    count: int

    def find_pause(self) -> float:
        return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.count - 1, 8))


@dataclass(slots=True)
class Refusals:
    """The last refusal of each use of a server, with one login."""

    _known: "OrderedDict[_Key, _Refusal]" = field(default_factory=OrderedDict)
    """The latest last."""

    def check(self, target: ConnectionTarget, use: str) -> None:
        """Raise the last refusal again while it is too early for another login."""
        refusal = self._find(_make_key(target, use))
        if refusal is not None and _now() - refusal.at < refusal.find_pause():
            raise PrimaryUnavailable(refusal.message, reason=Reason.ANSWER_REFUSED)

    def record(self, target: ConnectionTarget, use: str, error: HeadroomError) -> None:
        """Remember an error, if it is that an answer was refused."""
        if not isinstance(error, PrimaryUnavailable) or error.reason is not Reason.ANSWER_REFUSED:
            return
        key = _make_key(target, use)
        before = self._find(key)
        self._known[key] = _Refusal(str(error), _now(), before.count + 1 if before is not None else 1)
        self._known.move_to_end(key)
        while len(self._known) > MOST_REFUSALS:
            self._known.popitem(last=False)

    def _find(self, key: _Key) -> _Refusal | None:
        while self._known and _now() - next(iter(self._known.values())).at > FORGOTTEN_SECONDS:
            self._known.popitem(last=False)
        return self._known.get(key)


def _make_key(target: ConnectionTarget, use: str) -> _Key:
    # The texts of certificates and a password are part of the login, and nothing to keep.
    return target.namespace, target.host, target.port, use, hash(target)


def _now() -> float:
    return asyncio.get_running_loop().time()
