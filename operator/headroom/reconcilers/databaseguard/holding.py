"""What is held in memory for one guard: links, the canary, the last access, the state."""

from dataclasses import dataclass, field

from headroom.api.v1alpha1.connection import PrimaryConnection
from headroom.model.database import ConnectionTarget, Credentials
from headroom.policy.databaseguard.signals import Measurements
from headroom.policy.databaseguard.state import StateMemory
from headroom.ports.postgres import PrimaryLink, SlotLink
from headroom.reasons import Reason
from headroom.reconcilers.databaseguard.canary import CanaryLoop


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something does not work now; said in a condition."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Access:
    """The two logins as the Secrets have them; `replication_problem` says why the second is missing."""

    target: ConnectionTarget
    replication: Credentials | None = None
    replication_problem: Problem | None = None


@dataclass(slots=True)
class Attempt:
    """The last failed attempt to connect with a login, so that a wrong password is not tried every second."""

    login: object
    problem: Problem
    at: float


@dataclass(slots=True)
class Holding:
    """One guard's memory. Times are monotonic seconds."""

    namespace: str
    name: str
    uid: str
    canary: CanaryLoop
    state: StateMemory
    sampled_at: float
    access: Access | None = None
    access_of: PrimaryConnection | None = None
    """The part of the spec that `access` was read for: an edit takes effect at once."""
    access_read_at: float = 0.0
    link: PrimaryLink | None = None
    link_target: ConnectionTarget | None = None
    link_opened_at: float = 0.0
    slots: SlotLink | None = None
    slots_login: tuple[ConnectionTarget, Credentials] | None = None
    refused: Attempt | None = None
    slots_refused: Attempt | None = None
    must_read_access: bool = False
    system_identifier: str | None = None
    highest_timeline: int = 0
    answered_at: float | None = None
    worst: Measurements = field(default_factory=Measurements)
    last_reason: Reason | None = None
    has_had_state: bool = False
    """True once a state other than Unknown was known, by this process or one before."""
    said_state: StateMemory = field(default_factory=StateMemory)
    """The state that events have told of."""
    swept_at: float | None = None
    inactive_since: dict[str, float] = field(default_factory=dict)
    """Since when this process has seen each idle slot idle, for servers that do not tell."""

    async def close_slots(self) -> None:
        """End the link of the replication role."""
        slots, self.slots, self.slots_login = self.slots, None, None
        if slots is not None:
            await slots.close()

    async def close(self) -> None:
        """End every link and the canary; the guard's next look makes them anew."""
        await self.canary.stop()
        await self.close_slots()
        link, self.link, self.link_target = self.link, None, None
        if link is not None:
            await link.close()
