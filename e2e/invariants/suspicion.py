"""The names of the invariants, what a rule yields, and how long each thing may look wrong before it is."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from e2e.invariants.excuses import Excuse
from e2e.invariants.facts import Key, Observation, SetFacts
from e2e.invariants.tracks import Tracks

PROBE_SECONDS = 2.0
"""How often a member is checked: one more check than the bound itself."""
PROPAGATION_SECONDS = 2.0
"""From the patch of a label until the last proxy has dropped the endpoint."""
DISOWN_GRACE = PROBE_SECONDS + PROPAGATION_SECONDS + 2.0
"""For a member that never may serve: promoted, foreign, or past the fork."""
ACTIVATION_GRACE = 20.0
"""Two readings to be caught up, 5 s for a first member to be listed and as much for the next."""
WORDS_SECONDS = 12.0
"""Until a condition that is True already names one more member: its words are written every 10 s."""
RELEARN_SECONDS = 10.0
"""Until a new leader says of a member that its lag is not known."""
KEPT_GRACE = 45.0
"""Until a standby has the place of a stale member: two readings, an attempt that fails, 10 s of rest, the next one."""
RECONNECT_SECONDS = 5.0
"""Until the operator measures again after the primary came back."""
ORPHAN_GRACE = 45.0
"""Between the creation of a slot and that of its claim, or between the end of a claim and that of its slot."""
ANCHOR_GRACE = 60.0 + ORPHAN_GRACE
"""The slot of a snapshot that was not taken is kept for another try for a minute, before it is dropped."""
MISSING_GRACE = 30.0
"""Until the slots of live members exist on a new primary, or a member without one is given up."""
IDLE_WAL_GRACE, BUSY_WAL_GRACE = 45.0, 120.0
"""Above the cap: a slot nobody uses is dropped; a used one after its pod has stopped."""
SESSION_GRACE = 5.0
"""What ending many sessions takes, on top of ejectGrace."""
BLIND_GRACE = 30.0
"""Until the checker itself must have reached a primary that the operator calls well, or a member that it measures."""
UNSEEN_GRACE = 120.0
"""The same for a member in the Service that the operator does not measure either. Of a node that is lost Kubernetes
takes the pods out sooner."""
SHARE_SECONDS, SHARE = 60.0, 0.5
"""What was seen for half of the last minute is no flicker, however short each time was."""
SLOT_NAME = re.compile(r"^hr_([0-9a-f]{8})_([0-9a-f]{8})_(0|[1-9][0-9]*|s)_([0-9a-z]+)$")
"""What the operator calls a slot, and with it a member that streams. All else that begins so is somebody's own."""
ANCHOR_MARK = "s"
"""In the place of the ordinal: a slot that keeps the WAL of a snapshot, and belongs to no member."""
BY_CHOICE = frozenset({"ReplicasSet", "UtilizationBelowTarget", "Draining"})
"""Reasons to drain a member that is fit: its queries may end by themselves until `drain.timeout`."""
MISCONFIGURED = frozenset(
    {
        "PasswordRejected", "HostNotFound", "DatabaseNotFound", "SecretNotFound", "SecretKeyMissing", "SecretInvalid",
        "MissingRight", "NotADirectConnection", "TLSFailed",
    }
)  # fmt: skip
"""What a guard says when its user keeps the operator from a primary that the checker does reach."""


class Invariant(StrEnum):
    """The invariants by the names that reports and markers use."""

    SERVING_IS_FIT = "serving-is-fit"
    ENOUGH_SERVE = "enough-serve"
    ONE_POD_EACH = "one-pod-for-each-slot-and-claim"
    SLOTS_ARE_MEMBERS = "slots-are-members"
    ANCHORS_ARE_SNAPSHOTS = "anchors-are-snapshots"
    WAL_WITHIN_CAP = "kept-wal-within-cap"
    NO_STALE_CONNECTION = "no-stale-connection"
    NO_SESSION_KEPT = "no-session-kept"
    NO_QUERY_CUT = "no-query-cut"
    NEVER_SYNCHRONOUS = "never-synchronous"
    CHECKER_SEES = "checker-sees"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Something looks wrong. It becomes a violation when it was seen in every observation for `grace` seconds, which
    count only while a leader runs unless `needs_leader` is off. Different aspects of a subject count apart. One that
    `may_flicker` becomes a violation too when it was seen for half of the last minute. While the primary of its `guard`
    or the server in its `pod` does not answer, nobody could see it: a short silence of theirs pauses the count.
    """

    invariant: Invariant
    subject: str
    evidence: str
    grace: float = 0.0
    needs_leader: bool = True
    aspect: str = ""
    may_flicker: bool = False
    guard: Key | None = None
    pod: Key | None = None

    def is_hidden(self, now: Observation) -> bool:
        """Whether it could not be seen now."""
        is_silent = any(pod.key == self.pod and now.member(pod) is None for pod in now.pods)
        return (self.guard is not None and now.server(self.guard) is None) or is_silent


Rule = Callable[[Observation, Tracks], Iterator[Suspicion]]


def patience(excuse: Excuse, one: SetFacts) -> float:
    """How many seconds longer than usual old data may be met that is said so far; without end for a lasting excuse."""
    seconds = {
        Excuse.NONE: 0.0,
        Excuse.OTHERS: WORDS_SECONDS,
        # A new leader may need the whole bound until it knows a lag that nobody measured before.
        Excuse.PASSING: one.eject_lag + ACTIVATION_GRACE,
    }
    return seconds.get(excuse, float("inf"))


def name(key: Key) -> str:
    """Namespace and name in one word."""
    return "/".join(key)
