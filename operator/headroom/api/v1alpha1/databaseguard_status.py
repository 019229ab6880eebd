"""Status of a DatabaseGuard."""

from datetime import datetime

from headroom.api.base import StatusModel
from headroom.api.v1alpha1.common import CommonStatus, GuardState
from headroom.api.v1alpha1.decisions import Count, Number, Word


class ConnectionStatus(StatusModel):
    """The server's connections."""

    used: Count | None = None
    """Client connections in use."""
    usable: Count | None = None
    """Client connections that are allowed, without the reserved ones."""
    budget: Count | None = None
    """Usable connections that all WorkerPools together may hold now."""


class GuardBaseline(StatusModel):
    """What the server measures while it is Healthy; a threshold below twice that is ignored."""

    commit_latency: Number | None = None
    """Seconds of a small commit."""
    lock_waiters: Number | None = None
    """Sessions that wait for a lock."""
    active_per_core_percent: Number | None = None
    """Active sessions per core, in percent."""
    oldest_transaction: Number | None = None
    """Seconds since the oldest transaction began."""


class GuardMemory(StatusModel):
    """What the guard has learned and promised; stored here so that it survives a restart."""

    clean_since: datetime | None = None
    """Since when all signals are below the level at which the current state ends."""
    baseline: GuardBaseline | None = None
    """What the server measures while it is Healthy; learned over an hour."""


class DatabaseGuardStatus(CommonStatus):
    """The state of the database, and what was done to protect it."""

    state: GuardState | None = None
    """Healthy, Brownout, Overloaded, Emergency or Unknown."""
    state_since: datetime | None = None
    """When the state began."""
    state_signal: Word | None = None
    """The measurement that caused the state."""
    system_identifier: Word | None = None
    """The server's system identifier; Headroom does not act on another one until a person accepts it."""
    timeline: Count | None = None
    """The highest timeline of the server seen so far; a server on a lower one is an old primary."""
    server_version: Word | None = None
    """PostgreSQL version."""
    commit_latency_milliseconds: Number | None = None
    """The typical small commit of the last minute; the slowest of the last seconds while the state is not Healthy."""
    connections: ConnectionStatus | None = None
    """The server's connections."""
    lock_waiters: Count | None = None
    """Sessions that wait for a lock."""
    oldest_transaction_seconds: Number | None = None
    """Age of the oldest transaction."""
    memory: GuardMemory | None = None
    """What the guard has learned and promised."""
