"""What the outside world shows at one moment, as plain values. Times are monotonic seconds of the collecting process.

`seen_at` is when a fact was last confirmed: what is older than `FRESH_SECONDS` counts as unknown, and unknown accuses
nobody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Key = tuple[str, str]
"""Namespace and name."""
FRESH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class SetFacts:
    """A ReplicaSet: its promises, and what it says of itself. Seconds and bytes.

    `stale_reason` and `stale_message` are those of ReadsMayBeStale while it is True, else empty. `measured` names the
    members of which status has a replay lag, `mismatched` those of which it says that their libraries differ.
    """

    key: Key
    guard: Key
    service: Key
    is_active: bool = True
    is_deleting: bool = False
    wanted: int = 1
    min_serving: int = 1
    max_lag: float = 1.0
    eject_lag: float = 10.0
    eject_grace: float = 10.0
    drain_timeout: float = 60.0
    wal_cap: int | None = None
    stale_reason: str = ""
    stale_message: str = ""
    measured: frozenset[str] = frozenset()
    mismatched: frozenset[str] = frozenset()
    reasons: frozenset[str] = frozenset()
    uid: str = ""


@dataclass(frozen=True, slots=True)
class GuardFacts:
    """A DatabaseGuard: where its primary is, and what it says of it. One that is gone keeps its place: what it was to
    clean up is looked for on its primary.
    """

    key: Key
    host: str
    port: int = 5432
    database: str = "shop"
    is_ready: bool = True
    is_gone: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod of a set, or any other that mounts claims. `why` is why it drains, `slot` what it streams with."""

    key: Key
    set_name: str = ""
    role: str = ""
    ip: str = ""
    is_ready: bool = True
    is_ended: bool = False
    is_deleting: bool = False
    why: str = ""
    slot: str = ""
    claims: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """A claim of a set; `is_leaving` once it was decided that its member goes. `anchors` are the slots that keep the
    WAL of the snapshot that is taken of it, and of the one that it was restored from.
    """

    key: Key
    set_name: str
    slot: str
    is_leaving: bool = False
    anchors: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SnapshotFacts:
    """A snapshot of a set, with the uid of that set, and the slot that keeps its WAL."""

    key: Key
    set_name: str
    owner: str
    anchor: str
    is_deleting: bool = False


@dataclass(frozen=True, slots=True)
class SlotFacts:
    """A replication slot as its server shows it; `kept_bytes` is None if it keeps nothing."""

    name: str
    is_active: bool = True
    kept_bytes: int | None = 0


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A primary; `forks` has, for each timeline that ended, the position at which it did."""

    guard: Key
    seen_at: float
    is_primary: bool = True
    system_id: str = "1"
    timeline: int = 1
    slots: tuple[SlotFacts, ...] = ()
    synchronous: tuple[str, ...] = ()
    slot_wal_limit: int | None = None
    forks: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """A client's session on a member, opened `age` seconds ago by the server's clock."""

    pid: int
    age: float
    user: str


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """A member's server. `staleness` is a lower bound: what it shows is at least so many seconds old; None unknown.

    `timeline` is the one that it received last; `position` the highest that it has replayed.
    """

    pod: Key
    seen_at: float
    in_recovery: bool = True
    system_id: str = "1"
    timeline: int | None = 1
    is_streaming: bool = True
    position: int = 0
    staleness: float | None = 0.0
    sessions: tuple[SessionFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class NewRead:
    """A read on a fresh connection through a read Service: who answered, and how old that server was on connecting."""

    service: Key
    address: str
    staleness: float


@dataclass(frozen=True, slots=True)
class QueryCut:
    """A query through a read Service that ended with an error; `code` is SQLSTATE, empty for a lost connection."""

    service: Key
    address: str
    code: str
    message: str
    ran_for: float


@dataclass(frozen=True, slots=True)
class Observation:
    """All that was seen at a moment. `leader` is empty while no operator holds a lease that has not run out;
    `snapshots` is None where the cluster has none, or while they are not known.
    """

    at: float
    wall: float = 0.0
    leader: str = "operator"
    renewed_at: float | None = None
    sets: tuple[SetFacts, ...] = ()
    guards: tuple[GuardFacts, ...] = ()
    pods: tuple[PodFacts, ...] = ()
    claims: tuple[ClaimFacts, ...] = ()
    snapshots: tuple[SnapshotFacts, ...] | None = None
    listed: Mapping[Key, frozenset[str]] = field(default_factory=dict)
    servers: Mapping[Key, ServerFacts] = field(default_factory=dict)
    members: Mapping[Key, MemberFacts] = field(default_factory=dict)
    reads: tuple[NewRead, ...] = ()
    cuts: tuple[QueryCut, ...] = ()

    def server(self, guard: Key) -> ServerFacts | None:
        """The primary of a guard, if it answered as one just now."""
        found = self.servers.get(guard)
        return found if found and found.is_primary and self.is_fresh(found.seen_at) else None

    def member(self, pod: PodFacts) -> MemberFacts | None:
        """What a pod's server said just now."""
        found = self.members.get(pod.key)
        return found if found and self.is_fresh(found.seen_at) else None

    def is_fresh(self, seen_at: float) -> bool:
        """Whether something seen then may be taken for now."""
        return self.at - seen_at <= FRESH_SECONDS

    def pods_of(self, one: SetFacts) -> list[PodFacts]:
        """The set's pods, ended ones left out."""
        return [
            pod for pod in self.pods if pod.set_name == one.key[1] and pod.key[0] == one.key[0] and not pod.is_ended
        ]

    def is_listed(self, one: SetFacts, pod: PodFacts) -> bool:
        """Whether the read Service sends new connections to the pod."""
        return bool(pod.ip) and pod.ip in self.listed.get(one.service, frozenset())

    def serving(self, one: SetFacts) -> list[PodFacts]:
        """The set's pods that new connections are sent to: what counts is the Service, not a label."""
        return [pod for pod in self.pods_of(one) if self.is_listed(one, pod)]

    def guard(self, key: Key) -> GuardFacts | None:
        """A guard by its key."""
        return next((guard for guard in self.guards if guard.key == key), None)

    def set_of(self, service: Key) -> SetFacts | None:
        """The set behind a read Service."""
        return next((one for one in self.sets if one.service == service), None)

    def by_address(self, one: SetFacts, address: str) -> PodFacts | None:
        """The set's pod with an address."""
        return next((pod for pod in self.pods_of(one) if pod.ip == address), None)


def first(items: Iterable[str], count: int = 8) -> str:
    """Some names, and how many more there are."""
    ranked = sorted(items)
    more = f" and {len(ranked) - count} more" if len(ranked) > count else ""
    return ", ".join(ranked[:count]) + more
