"""One member as a pass knows it: what was found, what a row of passes shows, and what follows from both."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.conditions import Finding
from headroom.model.database import BackupProgress, Mark, ReplicaProbe, SlotFacts
from headroom.model.replica import ClaimFacts, MemberId, PodFacts, Role, Stage
from headroom.model.snapshot import Stamps
from headroom.model.timelines import TimelineHistory
from headroom.policy.replicaset import timeouts
from headroom.policy.replicaset.copy_progress import CopyProgress
from headroom.policy.replicaset.replay_lag import (
    LagVerdict,
    NotEligible,
    ReplayLag,
    describe_age,
    describe_lag,
    describe_pause,
)
from headroom.policy.replicaset.restores import Choice
from headroom.reasons import Reason

LIBRARY_REASONS = (Reason.COLLATION_MISMATCH, Reason.EXTENSION_MISSING, Reason.LIBRARY_NOT_PRELOADED)
"""What was found of a member's libraries that keeps it out of the Service; first what does most harm."""


@dataclass(frozen=True, slots=True)
class Member:
    """All that is known of one member in one pass."""

    id: MemberId
    name: str
    slot_name: str
    pod: PodFacts | None = None
    claim: ClaimFacts | None = None
    slot: SlotFacts | None = None
    backup: BackupProgress | None = None
    copy: CopyProgress | None = None
    """Its copy, as far as this process saw it."""
    is_copy_observed: bool = True
    """The standby that it is copied from could be asked in this pass, or it is copied from the primary."""
    is_listed: bool = False
    is_node_lost: bool = False
    """True only if the node itself was seen not to answer."""
    is_published: bool = True
    """Clients can verify its server."""
    restored: Stamps | None = None
    """The stamps of the snapshot that its volume is created from."""
    choice: Choice | None = None
    """What it is to be made from; only while it has a slot and no claim yet."""
    is_unread: bool = False
    """No probe of its server has told yet how far its data are."""
    probe: ReplicaProbe | None = None
    lag: LagVerdict | None = None
    within: int = 0
    """Readings in a row within the enter bounds."""
    beyond: int = 0
    """Readings beyond the leave bound since the last one within it."""
    stale: ReplayLag | None = None
    """The last of them."""
    stale_seconds: float = 0.0
    """How long ago that was."""
    unanswered: int = 0
    """Probes in a row without an answer."""
    silence: str = ""
    """The error of the last probe that got no answer."""
    is_full: bool = False
    """Its server lives and has no connection left, so it has as many sessions as it allows."""
    inherited_sessions: int | None = None
    """Its sessions as another process counted them; only used until this one was answered."""
    configured_connections: int = 0
    """How many its configuration gives it; only used if it was never asked."""
    silent_seconds: float = 0.0
    """How long no probe was answered."""
    still_seconds: float = 0.0
    """How long its copy has made no progress."""
    refused_seconds: float = 0.0
    """How long it has been ineligible for the same reason."""
    counted_age: float = 0.0
    """How old its data may be, but for the time in which the primary was not asked."""
    broken_seconds: float = 0.0
    """How long it has received and replayed nothing because it has no stream."""
    cut_seconds: float = 0.0
    """How long its answers have shown no stream, whether the primary answered or not."""
    last_lag: ReplayLag | None = None
    """The last lag that was measured, which may be of an earlier pass."""
    unmeasured_seconds: float = 0.0
    """How long ago that was."""
    judged: LagVerdict | None = None
    """The last verdict on it while the primary answered; never an unknown lag, or one that may be more."""
    judged_seconds: float = 0.0
    """How long ago that was; if never, how long it has been asked."""
    slot_idle_seconds: float = 0.0
    """How long nobody has used its slot."""
    drain_seconds: float = 0.0
    """How long this process has seen its pod drain."""
    saw_drain_begin: bool = False
    """This process has seen it before that, too, so that no wall clock has to tell how long it has drained."""
    server_restarts: int = 0
    """Restarts since its server last ran for long enough (`timeouts`)."""
    library_fault: Finding | None = None
    """Why its image does not let it serve, or why that is not known yet (`libraries`)."""
    activating_seconds: float | None = None
    """How long ago it was put into the Service, while no pass has confirmed it yet; None for all others."""
    divergence: Finding | None = None
    """Why it can never follow the primary again (`failover`)."""
    can_follow: bool = False
    """It is on an earlier timeline than the primary, and holds nothing past the point where that one forked off."""
    behind_seconds: float | None = None
    """How long it may have been on an earlier timeline than the primary; None if it is on the same."""
    is_fork_known: bool = False
    """It was read where the primary's timeline forked off."""
    is_resting: bool = False
    """It did not come into the Service in time, and is not tried again yet."""

    @property
    def role(self) -> Role | None:
        """The role label of its pod; None without a pod."""
        return self.pod.role if self.pod else None

    @property
    def allowed(self) -> int:
        """Client sessions that it allows; 0 while that is not known."""
        return self.probe.max_connections if self.probe is not None else self.configured_connections

    @property
    def sessions(self) -> int:
        """Client sessions when it last answered; one that is full, or never did, may have all it allows."""
        known = self.known_sessions
        return self.allowed if known is None or self.is_full else known

    @property
    def known_sessions(self) -> int | None:
        """Client sessions when it last answered; None if it never did."""
        return self.probe.sessions if self.probe is not None else self.inherited_sessions

    @property
    def has_other_libraries(self) -> bool:
        """Its image reads the data in another way than the primary's, as was seen; it must not serve."""
        return self.library_fault is not None and self.library_fault.reason in LIBRARY_REASONS

    @property
    def is_going(self) -> bool:
        """This member is to go; what is left of it is being removed."""
        return self.claim is not None and self.claim.retire is not None

    @property
    def is_source(self) -> bool:
        """It was stopped, or is to be, so that a snapshot of its volume can be taken."""
        return self.claim is not None and bool(self.claim.snapshot) and not self.is_going

    @property
    def is_staying(self) -> bool:
        """It is one of those that the set has: neither going nor stopped for a snapshot."""
        return not (self.is_going or self.is_source)

    @property
    def is_alive(self) -> bool:
        """It has a pod that may run, and nobody is removing it."""
        return self.pod is not None and not (self.pod.is_ended or self.pod.is_deleting) and self.is_staying

    @property
    def age(self) -> float:
        """How old its data may be, in seconds: since its lag was last measured nothing shows that they are younger."""
        return self.last_lag.seconds + self.unmeasured_seconds if self.last_lag is not None else 0.0

    @property
    def unstreamed_age(self) -> float:
        """How old its data may be, in seconds, once it is ineligible, but for outages; 0 while it is not."""
        return self.counted_age if self.refusal is not None else 0.0

    @property
    def measured(self) -> ReplayLag | None:
        """Its replay lag, if this pass could measure it."""
        return self.lag if isinstance(self.lag, ReplayLag) else None

    @property
    def ineligible(self) -> NotEligible | None:
        """Why it may not serve however small its lag: no stream, another timeline, another server."""
        return self.lag if isinstance(self.lag, NotEligible) else None

    @property
    def refusal(self) -> NotEligible | None:
        """The same, or what it was when last known: neither a silence nor a pass without the primary refutes it."""
        last = self.lag if isinstance(self.lag, ReplayLag | NotEligible) else self.judged
        return last if isinstance(last, NotEligible) else None


@dataclass(frozen=True, slots=True)
class StageContext:
    """What the verdicts need in addition to the member; `has_primary` is false while the primary does not answer.

    `drain_timeout` is how long a server may still run after its pod was deleted.
    `flush_lsn` is where the primary's WAL ends, `wal_cap` the bytes of it that a slot may keep; None: not known.
    `streaming` names the members that have a stream. `position` is that of the primary in this pass, `history` of its
    timeline, if it is known. `snapshots` names those that there are and that stay; None if that is not known.
    """

    now: datetime
    has_primary: bool
    readiness: Readiness
    stall_timeout: timedelta
    drain_timeout: timedelta = timedelta()
    flush_lsn: int | None = None
    wal_cap: int | None = None
    streaming: frozenset[str] = frozenset()
    position: Mark | None = None
    history: TimelineHistory | None = None
    snapshots: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """The stage a member is in and why it is not past it; `is_failed` gives the member up for another.

    `is_due_for_replacement`: it will not recover, but is useful until another has taken its place. Such members are
    replaced one by one.
    """

    stage: Stage
    reason: Reason
    message: str
    is_failed: bool = False
    progress_percent: int | None = None
    is_due_for_replacement: bool = False


@dataclass(frozen=True, slots=True)
class EvaluatedMember:
    """A member with its verdict."""

    facts: Member
    verdict: StageVerdict

    @property
    def name(self) -> str:
        """Name of the member."""
        return self.facts.name


def may_lag_more(member: Member) -> bool:
    """Its lag has been no more than a lower bound for too long: it replays nothing, or far behind."""
    is_open = member.measured is not None and not member.measured.is_bounded
    return is_open and member.judged_seconds >= timeouts.LAG_UNKNOWN_NOTICE.total_seconds()


def describe_stale(member: Member) -> str:
    """How old the data of a member beyond its bound is, and why if that is known, as a predicate."""
    lag = member.stale or member.measured
    age = describe_age(lag, member.stale_seconds) if lag is not None else f"serves: {describe_lag(member.lag)}"
    return f"{age}{describe_pause(member.probe)}"


Check = Callable[[Member, StageContext], StageVerdict | None]
STAGE_ORDER = {stage: number for number, stage in enumerate(Stage)}
