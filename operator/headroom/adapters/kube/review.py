"""Who may read the metrics: the API server says whose token a caller shows, and whether they may get the path.

The two questions, and for how long an answer holds, are those of controller-runtime (pkg/metrics/filters/filters.go).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from headroom.adapters.kube.limits import Limits
from headroom.errors import HeadroomError
from headroom.ports.clock import Clock
from headroom.ports.kube import ACCESS_REVIEW, TOKEN_REVIEW, Kind, Manifest

REVIEW_LIMITS = Limits(concurrency=4, calls_per_second=10, burst=20)
"""Two calls for each new token; callers without a right cannot use more of the API server."""
ALLOWED_SECONDS = 60.0
REFUSED_SECONDS = 30.0
MOST_KNOWN = 256
"""Tokens that are remembered of each verdict; a flood of wrong ones never displaces a right one."""
LONGEST_TOKEN = 16_384


class Verdict(Enum):
    """The answer to a caller: 200, 401, 403, 429 or 503."""

    ALLOWED = 200
    UNKNOWN_CALLER = 401
    FORBIDDEN = 403
    TOO_MANY = 429
    UNAVAILABLE = 503


class Reviews(Protocol):
    """Asks the API server for a verdict."""

    async def review(self, kind: Kind, spec: Mapping[str, Any]) -> Manifest:
        """The `status` of the answer."""
        ...


@dataclass(slots=True)
class _Known:
    """Verdicts by the digest of their token, until when they hold (monotonic seconds)."""

    seconds: float
    _until: "OrderedDict[bytes, tuple[float, Verdict]]" = field(default_factory=OrderedDict)

    def find(self, digest: bytes, now: float) -> Verdict | None:
        """The verdict while it holds."""
        until, verdict = self._until.get(digest, (0.0, None))
        return verdict if now < until else None

    def keep(self, digest: bytes, verdict: Verdict, now: float) -> None:
        """Remember a verdict; the oldest makes room."""
        self._until.pop(digest, None)
        self._until[digest] = now + self.seconds, verdict
        while len(self._until) > MOST_KNOWN:
            self._until.popitem(last=False)


@dataclass(slots=True)
class TokenReviewer:
    """Decides about callers by their bearer token. Tokens are kept as digests only, and never logged."""

    kube: Reviews
    clock: Clock
    _allowed: _Known = field(default_factory=lambda: _Known(ALLOWED_SECONDS))
    _refused: _Known = field(default_factory=lambda: _Known(REFUSED_SECONDS))
    _asking: set[str] = field(default_factory=set)
    """Addresses for which a question is on its way: one at a time for each."""

    async def decide(self, token: str, path: str, peer: str) -> Verdict:
        """Whether the owner of a token may get a path; `peer` is the address that the request comes from."""
        if not token or len(token) > LONGEST_TOKEN:
            return Verdict.UNKNOWN_CALLER
        digest, now = hashlib.sha256(f"{path}\0{token}".encode()).digest(), self.clock.monotonic()
        known = self._allowed.find(digest, now) or self._refused.find(digest, now)
        if known is not None:
            return known
        if peer in self._asking:
            return Verdict.TOO_MANY
        self._asking.add(peer)
        try:
            verdict = await self._ask(token, path)
        except HeadroomError:
            return Verdict.UNAVAILABLE
        finally:
            self._asking.discard(peer)
        kept = self._allowed if verdict is Verdict.ALLOWED else self._refused
        kept.keep(digest, verdict, self.clock.monotonic())
        return verdict

    async def _ask(self, token: str, path: str) -> Verdict:
        found = await self.kube.review(TOKEN_REVIEW, {"token": token})
        if found.get("authenticated") is not True:
            return Verdict.UNKNOWN_CALLER
        user = found.get("user") or {}
        spec = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        answer = await self.kube.review(ACCESS_REVIEW, spec)
        is_allowed = answer.get("allowed") is True and answer.get("denied") is not True
        return Verdict.ALLOWED if is_allowed else Verdict.FORBIDDEN
