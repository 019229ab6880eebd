"""What a set says of its own old data, and whom that excuses: the members that the message names, and for how long.

The operator says it in `ReadsMayBeStale`. Only a reason for which the member stays excuses without end; all others hold
while a substitute comes, or while the lag is not known yet.
"""

import re
from enum import IntEnum

from e2e.invariants.facts import Observation, PodFacts, SetFacts

LASTING_REASONS = frozenset({"LagPanic", "ReadsUnbounded"})
OUTAGE_REASON = "ReadsUnbounded"
"""With this reason a message that names no member is about the primary, and so about all of them."""
NOT_OURS_TO_ROUTE = frozenset({"NameConflict", "TargetConflict"})
LIBRARY_REASONS = frozenset({"CollationMismatch", "ExtensionMissing", "LibraryNotPreloaded"})
"""What keeps a member out of the Service although it is up to date. `LagPanic` is not said of such a one."""
MORE = re.compile(r"\b\d+ more\b")
"""How a message that names some of its members counts the rest."""


class Excuse(IntEnum):
    """How far old data of a member is said; a higher one lasts longer."""

    NONE = 0
    OTHERS = 1
    """It is said of others only; the words of a condition may be some seconds late."""
    PASSING = 2
    LASTING = 3


def find_excuse(now: Observation, one: SetFacts, pod: PodFacts | None) -> Excuse:
    """What the set says of a pod's data; None stands for a server that is no pod of the set."""
    if not one.stale_reason:
        return Excuse.NONE
    named = {other.key[1] for other in now.pods_of(one) if _is_named(other.key[1], one.stale_message)}
    if not named and one.stale_reason == OUTAGE_REASON:
        guard = now.guard(one.guard)
        return Excuse.PASSING if guard is not None and guard.is_ready else Excuse.LASTING
    if pod is None or not (pod.key[1] in named or MORE.search(one.stale_message)):
        return Excuse.OTHERS
    has_libraries_of_its_own = pod.key[1] in one.mismatched
    is_lasting = one.stale_reason in LASTING_REASONS or not may_route(one) or has_libraries_of_its_own
    return Excuse.LASTING if is_lasting else Excuse.PASSING


def may_route(one: SetFacts) -> bool:
    """Whether the operator may put members into the Service: it is active, and the Service is its own."""
    return one.is_active and not one.is_deleting and not one.reasons & NOT_OURS_TO_ROUTE


def _is_named(name: str, message: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", message) is not None
