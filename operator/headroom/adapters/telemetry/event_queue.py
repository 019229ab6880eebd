"""The events that wait to be posted: in turns of their namespaces, and no more of one than its share."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from headroom.ports.kube import Manifest, ObjectRef
from headroom.reconcilers.fairness import FairQueue

NAMESPACE_QUEUE_LIMIT, QUEUE_LIMIT = 50, 2000
"""Events that wait of one namespace, and of all."""


@dataclass(frozen=True, slots=True)
class EventKey:
    """What makes two events one series."""

    uid: str
    reason: str
    type: str
    template: str
    """The message without its measured numbers, so that two replicas, states or steps stay two events."""


@dataclass(frozen=True, slots=True)
class EventPost:
    """A pending write: a new event, or the count of a series."""

    key: EventKey
    ref: ObjectRef
    manifest: Manifest | None = None
    count: int = 0
    last_at: datetime | None = None
    attempt: int = 1


@dataclass(slots=True)
class EventQueue:
    """What waits to be posted. A namespace whose events the API server turns away waits until then, and no other."""

    _posts: FairQueue[EventPost] = field(default_factory=FairQueue)
    _resumes_at: dict[str, float] = field(default_factory=dict)
    has_news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, post: EventPost) -> bool:
        """False if the queue is full."""
        namespace = post.ref.namespace
        if self._posts.count(namespace) >= NAMESPACE_QUEUE_LIMIT or len(self._posts) >= QUEUE_LIMIT:
            return False
        self._posts.push(namespace, post)
        self.has_news.set()
        return True

    def take(self, now: float) -> EventPost | None:
        """The next of a namespace that does not wait."""
        self._resumes_at = {name: at for name, at in self._resumes_at.items() if at > now}
        found = self._posts.pop(may_have=lambda namespace: namespace not in self._resumes_at)
        if found is None:
            return None
        self._posts.charge(found[0], 1.0)
        return found[1]

    def hold(self, namespace: str, until: float) -> None:
        """Post nothing in this namespace before then."""
        self._resumes_at[namespace] = until

    def find_pause(self, now: float) -> float | None:
        """Seconds until a namespace that waits may continue; None if none waits."""
        waiting = [at for name, at in self._resumes_at.items() if self._posts.count(name)]
        return max(0.0, min(waiting) - now) if waiting else None
