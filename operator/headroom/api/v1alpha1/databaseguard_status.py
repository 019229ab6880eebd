"""Status of a DatabaseGuard."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from headroom.api.base import StatusModel
from headroom.api.v1alpha1.common import CommonStatus, GuardState
from headroom.api.v1alpha1.decisions import Count, Name, Number, Text, Word


class ConnectionStatus(StatusModel):
    """The server's connections."""

    used: Count | None = None
    """Client connections in use."""
    usable: Count | None = None
    """Client connections that are allowed, without the reserved ones."""
    budget: Count | None = None
    """Usable connections that all WorkerPools together may hold now."""


class LoadEntry(StatusModel):
    """A role and application with its active sessions."""

    role: Name
    """PostgreSQL role."""
    application: Name = ""
    """Value of application_name."""
    active: Number
    """Active sessions, on average."""
    pool: Name
    """The WorkerPool it belongs to, or `unmanaged`."""


class Blocker(StatusModel):
    """A session that others wait for."""

    pid: Count
    """Process id; 0 for a prepared transaction."""
    role: Name = ""
    """PostgreSQL role."""
    application: Name = ""
    """Value of application_name."""
    state: Word | None = None
    """What the session does, such as `idle in transaction`."""
    waiters: Count
    """Sessions that wait for it."""
    blocking_seconds: Number
    """How long the longest has waited."""
    pool: Name | None = None
    """The WorkerPool it belongs to."""
    prepared_transaction: Name | None = None
    """The gid of a prepared transaction."""


class Kill(StatusModel):
    """A statement that was cancelled or a session that was ended."""

    at: datetime
    """When."""
    pid: Count
    """Process id."""
    role: Name
    """PostgreSQL role."""
    application: Name = ""
    """Value of application_name."""
    action: Word
    """Cancel or Terminate."""
    waiters: Count
    """Sessions that waited for it."""
    result: Text = ""
    """The outcome."""


class GuardMemory(StatusModel):
    """What the guard has learned and promised; stored here so that it survives a restart."""

    healthy_commit_latency_milliseconds: Number | None = None
    """Commit latency while the database is healthy."""
    clean_since: datetime | None = None
    """Since when all signals are below the level at which the current state ends."""
    hold_seconds: Number | None = None
    """How long a clean hold must last before a step back."""
    last_entry: datetime | None = None
    """When a state other than Healthy was last entered."""


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
    load: Annotated[tuple[LoadEntry, ...], Field(max_length=5)] = ()
    """The roles and applications with the most active sessions."""
    blockers: Annotated[tuple[Blocker, ...], Field(max_length=10)] = ()
    """Sessions that others wait for, the worst first."""
    kills: Annotated[tuple[Kill, ...], Field(max_length=10)] = ()
    """The last statements that were cancelled and sessions that were ended, the newest first."""
    memory: GuardMemory | None = None
    """What the guard has learned and promised."""
