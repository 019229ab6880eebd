"""DatabaseGuard: one PostgreSQL primary, how to reach it, its connection budget and how it is protected."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import MapBy, SpecModel, Unique, rule
from headroom.api.v1alpha1.common import EntryName, RoleName, SecretKeyRef, SqlName
from headroom.api.v1alpha1.connection import PrimaryConnection
from headroom.api.v1alpha1.thresholds import GuardSignal, Thresholds
from headroom.api.values import DurationRange

Roles = Annotated[tuple[RoleName, ...], Field(max_length=64), Unique()]


class GuardMode(StrEnum):
    """Whether the guard's verdicts are carried out."""

    OBSERVE = "Observe"
    ENFORCE = "Enforce"


class LockMode(StrEnum):
    """What may be done to a session that blocks others."""

    OBSERVE = "Observe"
    CANCEL = "Cancel"
    TERMINATE = "Terminate"


class ConnectionBudget(SpecModel):
    """How the server's connections are shared."""

    worker_share_percent: Annotated[int, Field(ge=1, le=100)] = 60
    """Share of the usable connections that all WorkerPools together may hold."""
    reserve: Annotated[int, Field(ge=0, le=1000)] = 5
    """Connections that stay free for people and for Headroom itself."""


class Canary(SpecModel):
    """One small commit at a time, timed: it measures how slow commits are and how far replicas are behind."""

    enabled: bool = True
    """Whether commits are timed. If not, replay lag follows from the position of the primary in the WAL alone."""
    interval: Annotated[timedelta, DurationRange("200ms", "1m")] = timedelta(seconds=1)
    """Time between two commits. Each writes one logical message to the WAL, and no table."""


class Protection(SpecModel):
    """Sessions that are never cancelled or terminated."""

    roles: Roles = ()
    """Roles of such sessions."""
    applications: Annotated[tuple[SqlName, ...], Field(max_length=64), Unique()] = ()
    """Values of application_name of such sessions."""


class LockGuard(SpecModel):
    """What is done about sessions that block others."""

    mode: LockMode = LockMode.OBSERVE
    """`Observe` names blockers; `Cancel` cancels their statement; `Terminate` also ends their session. Only sessions of
    Background pools and of `mayEnd` are touched."""
    cancel_after: Annotated[timedelta, DurationRange("1s", "1h")] = timedelta(seconds=10)
    """How long others must have waited before the blocker's statement is cancelled."""
    terminate_after: Annotated[timedelta, DurationRange("1s", "1h")] = timedelta(seconds=15)
    """How long others must have waited before the blocker's session is ended."""
    min_waiters: Annotated[int, Field(ge=1, le=1000)] = 3
    """Sessions that must wait for a blocker before Headroom acts on it."""
    may_end: Roles = ()
    """Roles whose sessions may be cancelled or ended, in addition to those of Background pools."""
    protect: Protection = Protection()
    """Sessions that are never touched."""
    max_per_minute: Annotated[int, Field(ge=1, le=60)] = 6
    """Cancels and terminations per minute at most."""

    @rule(
        "duration(self.terminateAfter) > duration(self.cancelAfter)",
        "terminateAfter must be above cancelAfter: a statement is cancelled before its session is ended",
        field=".terminateAfter",
    )
    def _cancels_before_it_terminates(self) -> bool:
        return self.terminate_after > self.cancel_after

    @rule(
        "!has(self.mayEnd) || !has(self.protect) || !has(self.protect.roles)"
        " || !self.mayEnd.exists(r, r in self.protect.roles)",
        "a role is in both mayEnd and protect.roles: remove it from one",
        field=".mayEnd",
    )
    def _protected_roles_may_not_end(self) -> bool:
        return not set(self.may_end) & set(self.protect.roles)


class ReceiverType(StrEnum):
    """What takes notifications."""

    WEBHOOK = "Webhook"


class Webhook(SpecModel):
    """A receiver that takes JSON with a `text`, as Slack, Mattermost and Teams workflows do."""

    url_secret_ref: SecretKeyRef
    """The key of a Secret that holds the address, because whoever knows it can post."""


class Receiver(SpecModel):
    """A receiver of notifications when the state of the database changes."""

    name: EntryName
    """Name of the entry, shown in events."""
    type: ReceiverType
    """What takes the notification; its settings are in the member of the same name."""
    webhook: Webhook | None = None
    """With type Webhook: where to post."""

    @rule(
        "(self.type == 'Webhook') == has(self.webhook)",
        "set the one member that is named after type: webhook",
        field=".type",
    )
    def _member_matches_type(self) -> bool:
        return self.webhook is not None


class DatabaseGuardSpec(SpecModel):
    """One PostgreSQL primary: how to reach it, its connection budget, and how it is protected."""

    mode: GuardMode = GuardMode.OBSERVE
    """`Observe` measures and reports what it would do; `Enforce` limits pools, pauses work and ends blockers."""
    connection: PrimaryConnection
    """Where the primary is and how to log in."""
    cores: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU cores of the server. Absent: active sessions per core are not evaluated."""
    connections: ConnectionBudget = ConnectionBudget()
    """How the server's connections are shared."""
    canary: Canary = Canary()
    """The timed commit."""
    thresholds: Thresholds = Thresholds()
    """Where each state begins, for each measurement."""
    signals: Annotated[tuple[GuardSignal, ...], Field(max_length=16), MapBy("name")] = ()
    """Further measurements, such as the latency of your API."""
    locks: LockGuard = LockGuard()
    """What is done about sessions that block others."""
    notify: Annotated[tuple[Receiver, ...], Field(max_length=8), MapBy("name")] = ()
    """Receivers of a notification when the state changes."""
