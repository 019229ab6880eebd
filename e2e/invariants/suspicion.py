"""The names of the invariants, what a rule yields, and how long each thing may look wrong before it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from e2e.invariants.facts import Key, Observation
from e2e.invariants.tracks import Tracks

PROBE_SECONDS = 2.0
"""How often a member is checked: one more check than the bound itself."""
PROPAGATION_SECONDS = 2.0
"""From the patch of a label until the last proxy has dropped the endpoint."""
DISOWN_GRACE = PROBE_SECONDS + PROPAGATION_SECONDS + 2.0
"""For a member that never may serve: promoted, foreign, or past the fork."""
ACTIVATION_GRACE = 20.0
"""Two readings to be caught up, 5 s for a first member to be listed and as much for the next."""
RECONNECT_SECONDS = 5.0
"""Until the operator measures again after the primary came back."""
ORPHAN_GRACE = 45.0
"""Between the creation of a slot and that of its claim, or between the end of a claim and that of its slot."""
MISSING_GRACE = 30.0
"""Until the slots of live members exist on a new primary, or a member without one is given up."""
IDLE_WAL_GRACE, BUSY_WAL_GRACE = 45.0, 120.0
"""Above the cap: a slot nobody uses is dropped; a used one after its pod has stopped."""
SESSION_GRACE = 5.0
"""What ending many sessions takes, on top of ejectGrace."""
BLIND_GRACE = 30.0
"""Until the checker itself must have reached a primary that the operator calls well."""
SLOT_PREFIX = "hr_"
BY_CHOICE = frozenset({"ReplicasSet", "UtilizationBelowTarget", "Draining"})
"""Reasons to drain a member that is fit: its queries may end by themselves until `drain.timeout`."""
MISCONFIGURED = frozenset(
    {
        "PasswordRejected", "HostNotFound", "DatabaseNotFound", "SecretNotFound", "SecretKeyMissing", "SecretInvalid",
        "MissingRight", "NotADirectConnection", "TLSFailed",
    }
)  # fmt: skip
"""What a guard says when its user keeps the operator from a primary that the checker does reach."""
NOT_OURS_TO_ROUTE = frozenset({"NameConflict", "TargetConflict"})


class Invariant(StrEnum):
    """The invariants by the names that reports and markers use."""

    SERVING_IS_FIT = "serving-is-fit"
    ENOUGH_SERVE = "enough-serve"
    ONE_POD_EACH = "one-pod-for-each-slot-and-claim"
    SLOTS_ARE_MEMBERS = "slots-are-members"
    WAL_WITHIN_CAP = "kept-wal-within-cap"
    NO_STALE_CONNECTION = "no-stale-connection"
    NO_SESSION_KEPT = "no-session-kept"
    NO_QUERY_CUT = "no-query-cut"
    NEVER_SYNCHRONOUS = "never-synchronous"
    CHECKER_SEES = "checker-sees"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Something looks wrong. It becomes a violation when it was seen in every observation for `grace` seconds, which
    count only while a leader runs unless `needs_leader` is off. Different aspects of a subject count apart.
    """

    invariant: Invariant
    subject: str
    evidence: str
    grace: float = 0.0
    needs_leader: bool = True
    aspect: str = ""


Rule = Callable[[Observation, Tracks], Iterator[Suspicion]]


def name(key: Key) -> str:
    """Namespace and name in one word."""
    return "/".join(key)
