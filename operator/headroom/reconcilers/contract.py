"""What the level loop asks of a reconciler."""

from datetime import timedelta
from typing import Any, Protocol


class Reconciler(Protocol):
    """One kind's passes. A pass is level-based: it looks at what is, never at what changed."""

    async def reconcile(self, body: dict[str, Any]) -> timedelta:
        """Make one pass over a resource as last seen; returns how long the loop may sleep unless woken."""
        ...

    async def teardown(self, body: dict[str, Any]) -> timedelta | None:
        """Work towards an empty desired state; None when the finalizer may go, else when to come back."""
        ...

    async def forget(self, uid: str) -> None:
        """Close what is held in memory for a resource (links, windows); no side effect outside the process."""
        ...
