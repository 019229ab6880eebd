"""One member as a pass knows it: what was found, what a row of passes tells, and what is concluded from both."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.database import BackupProgress, ReplicaProbe, SlotFacts
from headroom.model.replica import ClaimFacts, MemberId, PodFacts, Role, Stage
from headroom.policy.replicaset.replay_lag import LagVerdict, NotEligible, ReplayLag
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Member:
    """All that is known of one member in one pass.

    `within` counts readings in a row within the enter bounds, `beyond` readings in a row beyond the leave bounds,
    `unanswered` probes in a row without an answer, and `silence` is what the last of them met. `silent_seconds` is how
    long no probe was answered, `still_seconds` how long its copy has not moved, `refused_seconds` how long it has been
    not eligible for the same reason, `broken_seconds` how long it was seen to receive and replay nothing because it has
    no stream, `slot_idle_seconds` how long nobody has used its slot. `server_restarts` counts since its server last ran
    in peace. `is_node_lost` is true only if the node itself was seen not to answer.
    """

    id: MemberId
    name: str
    slot_name: str
    pod: PodFacts | None = None
    claim: ClaimFacts | None = None
    slot: SlotFacts | None = None
    backup: BackupProgress | None = None
    is_listed: bool = False
    is_node_lost: bool = False
    probe: ReplicaProbe | None = None
    lag: LagVerdict | None = None
    within: int = 0
    beyond: int = 0
    unanswered: int = 0
    silence: str = ""
    silent_seconds: float = 0.0
    still_seconds: float = 0.0
    refused_seconds: float = 0.0
    broken_seconds: float = 0.0
    slot_idle_seconds: float = 0.0
    server_restarts: int = 0

    @property
    def role(self) -> Role | None:
        """The role label of its pod; None without a pod."""
        return self.pod.role if self.pod else None

    @property
    def is_going(self) -> bool:
        """It was decided that this member goes; what is left of it is being removed."""
        return self.claim is not None and self.claim.retire is not None

    @property
    def is_alive(self) -> bool:
        """It has a pod that may run, and nobody is removing it."""
        return self.pod is not None and not (self.pod.is_ended or self.pod.is_deleting or self.is_going)

    @property
    def measured(self) -> ReplayLag | None:
        """Its replay lag, where one could be measured in this pass."""
        return self.lag if isinstance(self.lag, ReplayLag) else None

    @property
    def ineligible(self) -> NotEligible | None:
        """Why it may not serve however small its lag: no stream, another timeline, another server."""
        return self.lag if isinstance(self.lag, NotEligible) else None


@dataclass(frozen=True, slots=True)
class StageContext:
    """What the verdicts need besides the member; `has_primary` is false while the primary does not answer.

    `flush_lsn` is where the primary's WAL ends, `wal_cap` the bytes of it that a slot may keep; None: not known.
    `streaming` names the members whose streams stand.
    """

    now: datetime
    has_primary: bool
    readiness: Readiness
    stall_timeout: timedelta
    flush_lsn: int | None = None
    wal_cap: int | None = None
    streaming: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """The stage a member is in and why it is not past it; `is_failed` gives the member up, and another is made.

    `is_due_for_replacement`: it will not come back, but is of use until another is there; such members are replaced one
    by one.
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


Check = Callable[[Member, StageContext], StageVerdict | None]
STAGE_ORDER = {stage: number for number, stage in enumerate(Stage)}
