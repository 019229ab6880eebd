"""Facts about PostgreSQL servers, as one statement or one measurement returned them."""

import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from headroom.model.conditions import Finding
from headroom.model.frozen import FrozenMap

_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
OLDEST_MAJOR, NEWEST_MAJOR = 14, 18
"""The PostgreSQL versions that every statement of ours works on."""


class Lsn(int):
    """A byte position in the WAL; prints as PostgreSQL does (`16/B374D848`); differences are bytes."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `high/low` in hexadecimal, 32 bits each; raises ValueError for anything else."""
        if _LSN.fullmatch(text) is None:
            raise ValueError(f"not an LSN: {text[:64]!r}")
        high, _, low = text.partition("/")
        return cls((int(high, 16) << 32) | int(low, 16))

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    def __repr__(self) -> str:
        return f"Lsn({self})"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A login from a Secret; never printed."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConnectionTarget:
    """Where a server is and how to reach it; PEM texts, not paths. `tls_mode` is libpq's sslmode.

    `password_method` is the weakest that is answered, `tls_server_name` the name in the certificate where that is not
    `host`, `namespace` that of the object whose spec names the server. `is_member`: it is a replica of ours, and `host`
    the address of its pod.
    """

    host: str
    port: int
    database: str
    credentials: Credentials
    tls_mode: str = "prefer"
    ca_pem: str | None = field(default=None, repr=False)
    client_certificate_pem: str | None = field(default=None, repr=False)
    client_key_pem: str | None = field(default=None, repr=False)
    password_method: str = "scram-sha-256"  # noqa: S105
    tls_server_name: str | None = None
    namespace: str = ""
    is_member: bool = False


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What one statement on one backend shows of a server.

    `version` is PostgreSQL's server_version_num (170002), `timeline` of the WAL being written or received, `settings`
    the parameters we compare (text as in pg_settings: in the parameter's own unit, MB for max_slot_wal_keep_size),
    counts are of the whole server. `missing_rights` are names of predefined roles the login does not belong to.
    `started_at` is when the postmaster started, `address` the `host:port` that we connected to after resolution.
    """

    system_identifier: str
    version: int
    is_in_recovery: bool
    timeline: int
    flush_lsn: Lsn | None
    settings: FrozenMap[str, str]
    wal_senders_used: int
    slots_used: int
    is_direct: bool
    missing_rights: tuple[str, ...] = ()
    has_user_tablespaces: bool = False
    is_superuser: bool = False
    has_installation_lock: bool = True
    started_at: datetime | None = None
    address: str = ""

    @property
    def major(self) -> int:
        """17 for 17.2."""
        return self.version // 10_000


@dataclass(frozen=True, slots=True)
class Mark:
    """A position of the primary's WAL at a time: all that was flushed before `taken_at` lies at or before `lsn`.

    `taken_at` is monotonic seconds, read before the statement that reads the flush LSN is sent. `commit_seconds` is how
    long the canary's own COMMIT took, which came before that; None if only the position was read.
    """

    taken_at: float
    lsn: Lsn
    commit_seconds: float | None
    timeline: int
    system_identifier: str


@dataclass(frozen=True, slots=True)
class LimitedConnections:
    """Client backends of one role or in one database; `limit` is its CONNECTION LIMIT, None without one."""

    used: int
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionCounts:
    """Client backends of a server: `used` now, `limit` that ordinary roles may use, `active` running a statement.

    `roles` and `databases` are by name: those that have connections or a limit.
    """

    used: int
    active: int
    idle_in_transaction: int
    limit: int
    lock_waiters: int
    oldest_transaction_seconds: float
    roles: FrozenMap[str, LimitedConnections] = field(default_factory=FrozenMap)
    databases: FrozenMap[str, LimitedConnections] = field(default_factory=FrozenMap)


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """A physical replication slot; `restart_lsn` is where the WAL that it keeps begins, None if it keeps none.

    `inactive_seconds` is None while it is in use, or without a count of the server. `invalidation` is why the server
    gave it up, in its own word, if it says so.
    """

    name: str
    is_active: bool
    restart_lsn: Lsn | None
    wal_status: str | None
    has_xmin: bool
    inactive_seconds: float | None = None
    invalidation: str | None = None

    @property
    def is_lost(self) -> bool:
        """Whether the server gave it up: it keeps no WAL, and nobody can use it any more."""
        return self.wal_status == "lost"

    def describe_loss(self) -> str:
        """Why it is lost, and what to do."""
        if self.invalidation == "idle_timeout":
            return f"the primary gave up slot {self.name}, which nobody used; raise idle_replication_slot_timeout"
        return f"the primary gave up the WAL of slot {self.name}; raise max_slot_wal_keep_size"

    def idle_seconds(self, seen_seconds: float) -> float:
        """How long nobody has used it: by the server's own count if it has one, else as long as we saw it."""
        if self.is_active:
            return 0.0
        return self.inactive_seconds if self.inactive_seconds is not None else seen_seconds


@dataclass(frozen=True, slots=True)
class BackupProgress:
    """A base backup as the primary sees it; `application_name` names the member. Bytes; total 0 while unknown."""

    application_name: str
    phase: str
    streamed_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ReplicaProbe:
    """One statement on a replica, and the monotonic second before it was sent.

    `server_name` is its `cluster_name`, which a member starts with as its own name. `timeline` is the walreceiver's
    received timeline. `wal_timeline` is that of the newest WAL it has, and is read only if there is no receiver.
    Session counts are client backends other than ours, and `max_connections` is how many of them there may be: what is
    reserved is left out. `transactions` of all databases have ended since the statistics began; None is not known.
    """

    probed_at: float
    answered_at: float
    server_name: str
    is_in_recovery: bool
    system_identifier: str
    version: int
    replay_lsn: Lsn | None
    receive_lsn: Lsn | None
    timeline: int | None
    is_streaming: bool
    is_replay_paused: bool
    sessions: int
    active_sessions: int
    max_connections: int
    wal_timeline: int | None = None
    transactions: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionBudget:
    """What a server's connections are for.

    `usable` is without what is reserved, `budget` what all WorkerPools together may hold now, `used_percent` the share
    of the usable that is in use. `finding` says why, if the budget is smaller than what was asked for.
    """

    used: int
    usable: int
    budget: int
    used_percent: float
    finding: Finding | None = None


ROUNDING = 1e-6
"""A third of three connections, three times, is not four."""
NO_LIMIT = 1_000_000_000
"""More workers than any pool has."""


@dataclass(frozen=True, slots=True)
class PoolDemand:
    """What one WorkerPool holds and wants of a server's connections; counts are of workers.

    `rank` is 0 for Critical, 1 for Standard, 2 for Background. `running` workers hold connections now or are being
    started: `ready` of them certainly do, those that have `started` may, `busy` of them run a job. `terminating` ones
    take no job any more, and hold their connections until they are gone; how many there are is known once the pods are
    counted (`is_counted`). `wanted` is the last count that its queue asked for, `minimum` and `maximum` are the bounds
    of its spec. A pool that scales nothing now cannot give workers back: all that run are busy, and they are its
    maximum. More than `limit_now` it may not run until more is known of it; its part is kept for it until then.

    `connections_per_worker` is what the spec says, `measured` what one worker was seen to take where that is more, and
    `seen` where it is less (0: not known); the largest one counts. `role` is the PostgreSQL role of the workers, None
    where the spec does not name it.

    `guard` is the name of the DatabaseGuard that the pool refers to. `workload` names what it scales, as long as that
    exists and whatever pool scales it; None while no worker was ever seen.
    """

    uid: str
    rank: int
    connections_per_worker: int
    minimum: int
    running: int
    busy: int
    wanted: int
    maximum: int
    guard: str
    ready: int
    terminating: int
    workload: str | None
    started: int
    is_counted: bool = True
    role: str | None = None
    measured: float = 0.0
    seen: float = 0.0
    limit_now: int = NO_LIMIT

    @property
    def per_worker(self) -> float:
        """Connections that one worker takes."""
        return max(self.connections_per_worker, self.measured)

    @property
    def held(self) -> int:
        """Connections that are the pool's, or will be soon: all that are not, are others'."""
        return self._connections(self.running + self.terminating)

    @property
    def connected(self) -> int:
        """Connections that the server certainly counts."""
        return self._connections(self.ready + self.terminating)

    @property
    def possible(self) -> int:
        """Connections that the server may count by now: a worker that has started need not be ready to hold some."""
        return self._connections(max(self.ready, self.started) + self.terminating)

    def _connections(self, workers: int) -> int:
        return math.ceil(self.per_worker * workers - ROUNDING)


@dataclass(frozen=True, slots=True)
class Allocation:
    """A pool's part of the budget: workers it may have, and what the message needs to say why.

    `budget`, `held_by_others`, `ahead` and `terminating` are connections. The pools that share the budget may hold all
    of it, the others of them hold some, and those of a higher class get so many first for their queues. The last is
    what the pool's own terminating workers hold. With `is_pooled` the budget is the size of the guard's pooler;
    `limited` names the role or the database whose CONNECTION LIMIT it follows, else it is empty. `per_worker` is what
    one worker was measured to take where that is more than the spec says, else 0; `seen` the same where it is less.
    `is_short` is true when the pool gets less than it had asked for, even once the others have given back their part.
    """

    workers: int
    budget: int
    held_by_others: int
    ahead: int = 0
    terminating: int = 0
    is_short: bool = False
    is_pooled: bool = False
    limited: str = ""
    per_worker: float = 0.0
    seen: float = 0.0


VIEW_FRESH_SECONDS = 10.0
"""A guard observes its server every second or two: an older view says nothing about the present."""


@dataclass(frozen=True, slots=True)
class DatabaseView:
    """What is known of a guard's server, for the pools and sets that refer to it; a value without links.

    `finding` is the guard's own Ready condition; while `is_ready` is false nothing may be decided on the rest, and
    `connections`, `budget` and `allocations` are the last ones there were. `target` is the login of the Secret,
    whether or not it was tried. `queue` is the login that reads the tables of queues, or why there is none; `warmup`
    the same of the one that fills the caches of standbys. `observed_at` is monotonic seconds; `marks` are the newest
    canary rounds, oldest first; `allocations` are by pool uid. `state` is the guard's, as status has it;
    `are_commits_slow` is true while commits take as long as in a Brownout or longer.
    """

    guard_uid: str
    is_ready: bool
    finding: Finding
    observed_at: float
    target: ConnectionTarget | None = None
    replication: Credentials | None = None
    queue: Credentials | Finding | None = None
    warmup: Credentials | Finding | None = None
    server: ServerFacts | None = None
    connections: ConnectionCounts | None = None
    budget: ConnectionBudget | None = None
    allocations: FrozenMap[str, Allocation] = field(default_factory=FrozenMap)
    marks: tuple[Mark, ...] = ()
    state: str = "Unknown"
    are_commits_slow: bool = False
