"""What is held for one guard between passes beside its memory: links, the canary's task, logins and their back-off."""

from dataclasses import dataclass
from datetime import datetime

from headroom.model.conditions import Finding
from headroom.model.database import ConnectionTarget, Credentials, ServerFacts
from headroom.policy.databaseguard.membership import Membership
from headroom.ports.clock import Clock
from headroom.ports.postgres import PrimaryLink, SlotLink
from headroom.ports.telemetry import Telemetry
from headroom.reconcilers.databaseguard import metrics
from headroom.reconcilers.databaseguard.canary import CanaryLoop
from headroom.reconcilers.logins import CachedLogin, LoginBackoff
from headroom.reconcilers.servers import GuardKey, GuardLinks

SLOTS_RETRY_SECONDS = 5.0
SWEEP_SECONDS = 5.0
"""Whatever the list of slots or a sweep waits for, the guard's next pass must not be late: sets treat an old view as
missing."""


@dataclass(frozen=True, slots=True)
class Access:
    """The logins as the Secrets have them; `replication_problem` says why the second is missing. `queue` is the login
    for the tables of queues, why it cannot be read, or None if the spec names none; `warmup` the same for caches.

    The Secret of the first was last written at `changed_at`; None where the API server does not tell.
    """

    target: ConnectionTarget
    replication: Credentials | None = None
    replication_problem: Finding | None = None
    queue: Credentials | Finding | None = None
    warmup: Credentials | Finding | None = None
    changed_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class GuardHandles:
    """One guard's open ends; times are monotonic seconds.

    `membership` is how it last joined the guards of its server, `server` what its own login saw of it at
    `identified_at`. `is_holding` is true while its link has canary and lock, because it measures. `observed_seconds` is
    how long the last observation took, Secrets apart. Commits that ended by `recorded_until` are in the metrics.
    """

    key: GuardKey
    uid: str
    canary: CanaryLoop
    login: CachedLogin[Access]
    backoff: LoginBackoff
    slots_backoff: LoginBackoff
    access: Access | None = None
    link: PrimaryLink | None = None
    link_target: ConnectionTarget | None = None
    link_opened_at: float = 0.0
    slots: SlotLink | None = None
    slots_login: tuple[ConnectionTarget, Credentials] | None = None
    membership: Membership | None = None
    server: ServerFacts | None = None
    identified_at: float = 0.0
    is_holding: bool = False
    observed_seconds: float = 0.0
    recorded_until: float = 0.0

    @classmethod
    def make(cls, key: GuardKey, uid: str, clock: Clock, telemetry: Telemetry) -> "GuardHandles":
        """Nothing is open and nothing was read yet."""
        labels = {"namespace": key[0], "name": key[1]}
        canary = CanaryLoop(
            clock,
            on_commit=lambda seconds: telemetry.record(metrics.COMMIT_SECONDS, seconds, **labels),
            on_failure=lambda reason: telemetry.record(metrics.CANARY_FAILURES, 1, reason=reason, **labels),
        )
        # A link for replication is not the guard itself: it is tried again soon, whatever the failure was.
        slots_backoff = LoginBackoff(clock, retry_seconds=SLOTS_RETRY_SECONDS, reasons=None)
        return cls(
            key=key,
            uid=uid,
            canary=canary,
            login=CachedLogin(clock),
            backoff=LoginBackoff(clock),
            slots_backoff=slots_backoff,
        )

    @property
    def links(self) -> GuardLinks | None:
        """The open links, for those who act through them."""
        return None if self.link is None else GuardLinks(self.link, self.slots)

    async def step_down(self) -> None:
        """Another guard measures: end the canary, and give its connection and the lock's back."""
        await self.canary.stop()
        if self.is_holding and self.link is not None:
            await self.link.step_down()
        self.is_holding = False

    async def close_slots(self) -> None:
        """End the link of the replication role."""
        slots, self.slots, self.slots_login = self.slots, None, None
        if slots is not None:
            await slots.close()

    async def close(self) -> None:
        """End every link and the canary; the guard's next pass opens them again."""
        await self.canary.stop()
        await self.close_slots()
        link, self.link, self.link_target, self.is_holding = self.link, None, None, False
        self.membership, self.server = None, None
        if link is not None:
            await link.close()
