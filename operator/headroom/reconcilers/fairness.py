"""Who is next when several namespaces want the same thing: pure queues and buckets; the caller brings the time."""

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Generic, TypeVar

T = TypeVar("T")
ROUNDING = 1e-6
"""Of a second or a token: less is a rounding error, and a clock cannot tell such a time."""
KEPT_ACCOUNTS = 256
"""Accounts of namespaces that nothing waits for; above this, those that have used least are dropped."""


@dataclass(slots=True)
class TokenBucket:
    """Holds `burst` tokens and gains `rate` a second; `now` is monotonic seconds."""

    rate: float
    burst: float
    _tokens: float = field(init=False)
    _filled_at: float | None = None

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> float:
        """Take one token, in debt if need be; returns the seconds to wait before using it."""
        self._fill(now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self.rate)

    def try_take(self, now: float) -> bool:
        """Take one token if there is one."""
        if self.find_wait(now) > 0:
            return False
        self._tokens -= 1
        return True

    def find_wait(self, now: float) -> float:
        """Seconds until there is a token to take."""
        self._fill(now)
        return 0.0 if self._tokens >= 1 - ROUNDING else (1 - self._tokens) / self.rate

    def is_full(self, now: float) -> bool:
        """True when nothing was taken for so long that it does not matter any more."""
        self._fill(now)
        return self._tokens >= self.burst

    def _fill(self, now: float) -> None:
        if self._filled_at is not None:
            self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now


@dataclass(slots=True)
class FairQueue(Generic[T]):
    """Items that wait, by namespace: the namespace that has used least is next, and its items go in their order.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996), which is also what the API server's Priority and Fairness
    does between the flows of a level. An account has what a namespace has used, in any unit. One that comes back after
    a pause begins at the account of whoever is served now: an idle time saves nothing up.
    """

    _waiting: dict[str, deque[T]] = field(default_factory=dict)
    _accounts: dict[str, float] = field(default_factory=dict)
    _served: float = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def namespaces(self) -> Collection[str]:
        """Those that have something waiting."""
        return self._waiting.keys()

    def count(self, namespace: str) -> int:
        """How many items of a namespace wait."""
        return len(self._waiting.get(namespace, ()))

    def push(self, namespace: str, item: T) -> None:
        """Let an item wait."""
        items = self._waiting.get(namespace)
        if items is None:
            items = self._waiting[namespace] = deque()
            self._accounts[namespace] = max(self._accounts.get(namespace, 0.0), self._served)
        items.append(item)

    def pop(self, *, may_have: Callable[[str], bool] | None = None) -> tuple[str, T] | None:
        """The next item and its namespace; None if nothing waits that may have a turn now."""
        namespaces = self._waiting if may_have is None else filter(may_have, self._waiting)
        namespace = min(namespaces, key=self._accounts.__getitem__, default=None)
        if namespace is None:
            return None
        items = self._waiting[namespace]
        item = items.popleft()
        if not items:
            del self._waiting[namespace]
        self._served = max(self._served, self._accounts[namespace])
        self._drop_accounts()
        return namespace, item

    def remove(self, namespace: str, item: T) -> None:
        """Drop an item that waits no more."""
        items = self._waiting.get(namespace)
        if items is not None and item in items:
            items.remove(item)
            if not items:
                del self._waiting[namespace]

    def charge(self, namespace: str, cost: float) -> None:
        """Put on a namespace's account what it has used."""
        self._accounts[namespace] = max(self._accounts.get(namespace, 0.0), self._served) + cost

    def _drop_accounts(self) -> None:
        if len(self._accounts) > KEPT_ACCOUNTS + len(self._waiting):
            by_use = sorted(self._accounts.items(), key=itemgetter(1))
            most_used = dict(by_use[-KEPT_ACCOUNTS // 2 :])
            self._accounts = {name: self._accounts[name] for name in (*self._waiting, *most_used)}
