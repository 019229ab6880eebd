"""What the DatabaseGuards know, for the passes that need a database: one snapshot per guard, in memory."""

from dataclasses import dataclass, field

from headroom.model.database import ConnectionCounts, ConnectionTarget, Credentials, Mark, ServerFacts
from headroom.ports.postgres import PrimaryLink, SlotLink
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class GuardView:
    """A guard's last look at its server.

    `marks` are the newest canary rounds, oldest first; `looked_at` is monotonic. When `is_ready` is false the links
    are None and `reason` and `message` say what the guard's own Ready condition says.
    """

    uid: str
    is_ready: bool
    reason: Reason
    message: str
    looked_at: float
    target: ConnectionTarget | None = None
    replication: Credentials | None = None
    server: ServerFacts | None = None
    connections: ConnectionCounts | None = None
    marks: tuple[Mark, ...] = ()
    primary: PrimaryLink | None = None
    slots: SlotLink | None = None


@dataclass(slots=True)
class GuardBoard:
    """Guard views by namespace and name; written by the guard's pass, read by all others."""

    _views: dict[tuple[str, str], GuardView] = field(default_factory=dict)

    def post(self, namespace: str, name: str, view: GuardView) -> None:
        """Replace the view of one guard."""
        self._views[namespace, name] = view

    def read(self, namespace: str, name: str) -> GuardView | None:
        """The last view, or None when no such guard was ever looked at."""
        return self._views.get((namespace, name))

    def remove(self, namespace: str, name: str) -> None:
        """Forget a guard."""
        self._views.pop((namespace, name), None)
