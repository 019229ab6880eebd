"""TLS contexts: made once beside the event loop, and shared by all connections that trust the same.

Parsed certificates take far more memory than their text, and authors choose the texts. What a namespace makes us keep
is counted for as long as a connection uses it, and bounded.
"""

import asyncio
import hashlib
import ssl
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from headroom.adapters.postgres.wire.tls import build_context
from headroom.adapters.shares import Shares
from headroom.errors import PrimaryUnavailable
from headroom.model.certificates import count_certificates
from headroom.model.database import ConnectionTarget
from headroom.reasons import Reason

PARSED_BYTES = 4 << 10
"""What one parsed certificate takes beside its text: 4.1 KiB with OpenSSL 3.0 and the keys of an elliptic curve."""
ASSURED_BYTES = 2 << 20
"""What each namespace may have, whatever others do: one context of the largest texts, and most people's all."""
MOST_NAMESPACE_BYTES = 8 << 20
MOST_PROCESS_BYTES = 48 << 20
KEPT_SECONDS = 600.0
"""A namespace that has opened no connection for so long keeps no context that none of its connections uses."""


@dataclass(slots=True)
class _Share:
    """The contexts of one namespace; `used_bytes` are those of all that are kept here or used by a connection."""

    kept: "OrderedDict[bytes, ssl.SSLContext]" = field(default_factory=OrderedDict)
    alive: "weakref.WeakValueDictionary[bytes, ssl.SSLContext]" = field(default_factory=weakref.WeakValueDictionary)
    used_bytes: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_at: float = 0.0

    def is_idle(self, now: float) -> bool:
        if now - self.used_at >= KEPT_SECONDS:
            self.kept.clear()
        return not self.alive


@dataclass(slots=True)
class Contexts:
    """All contexts of a process."""

    _shares: Shares[_Share] = field(default_factory=lambda: Shares(_Share))
    _used_bytes: int = 0
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=1, thread_name_prefix="certificates")
    )

    async def get(self, target: ConnectionTarget) -> ssl.SSLContext | None:
        """What a target asks for, None without TLS; raises PrimaryUnavailable if its certificates cannot be used."""
        if target.tls_mode == "disable":
            return None
        cost = _find_cost(target)
        # What no author's text is in serves everybody.
        with self._shares.use(target.namespace if cost else "") as share:
            # One at a time for a namespace, so that others wait for one of its contexts at most.
            async with share.turn:
                share.used_at = asyncio.get_running_loop().time()
                return await self._find(share, target, cost)

    async def _find(self, share: _Share, target: ConnectionTarget, cost: int) -> ssl.SSLContext:
        key = _make_key(target)
        context = share.alive.get(key)
        if context is None:
            self._make_room(share, cost)
            context = await asyncio.get_running_loop().run_in_executor(self._thread, build_context, target)
            self._keep(share, key, context, cost)
        elif key in share.kept:
            share.kept.move_to_end(key)
        return context

    def _make_room(self, share: _Share, cost: int) -> None:
        while not self._fits(share, cost):
            if not share.kept:
                raise PrimaryUnavailable(
                    f"the certificates that connections of this namespace trust take more than "
                    f"{MOST_NAMESPACE_BYTES >> 20} MiB together; use one Secret for several of them, or shorter lists",
                    reason=Reason.TLS_FAILED,
                )
            share.kept.popitem(last=False)

    def _fits(self, share: _Share, cost: int) -> bool:
        wanted = share.used_bytes + cost
        if wanted <= ASSURED_BYTES:
            return True
        return wanted <= MOST_NAMESPACE_BYTES and self._used_bytes + cost <= MOST_PROCESS_BYTES

    def _keep(self, share: _Share, key: bytes, context: ssl.SSLContext, cost: int) -> None:
        share.alive[key] = share.kept[key] = context
        self._count(share, cost)
        weakref.finalize(context, self._count, share, -cost)

    def _count(self, share: _Share, cost: int) -> None:
        share.used_bytes += cost
        self._used_bytes += cost


def _find_texts(target: ConnectionTarget) -> tuple[str, ...]:
    return tuple(text or "" for text in (target.ca_pem, target.client_certificate_pem, target.client_key_pem))


def _find_cost(target: ConnectionTarget) -> int:
    return sum(len(text) + PARSED_BYTES * count_certificates(text) for text in _find_texts(target))


def _make_key(target: ConnectionTarget) -> bytes:
    digest = hashlib.sha256(target.tls_mode.encode())
    for text in _find_texts(target):
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.digest()
