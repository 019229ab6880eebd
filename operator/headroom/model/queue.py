"""Facts about queues, as one probe returned them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WaitingItem:
    """A helpable item, and for how many seconds it has been ready."""

    id: int
    seconds: float


END_PREPARED = (
    "it is prepared, and has no session: end it in psql with "
    "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE transaction = '{}' \\gexec"
)
"""How a person ends a transaction that waits for its second phase. Its own name is left out: anybody may choose it."""


@dataclass(frozen=True, slots=True)
class StuckItem:
    """A ready item that the workers pass over; `holder` is the transaction that has locked its row, if that is why, and
    `is_prepared` says that this one waits for its second phase, and has no session.
    """

    id: int
    holder: int | None = None
    is_prepared: bool = False


@dataclass(frozen=True, slots=True)
class QueueSample:
    """One sample of all queues of a pool together.

    `taken_at` is monotonic seconds, before the question was sent. *Helpable* items are those that one more worker could
    take; `blocked` ones wait for a key, a pause or a scheduler and are kept apart. `arrived` (items that became ready),
    `ended` (attempts, done or failed) and `failed` are counts since the probe began: only their differences mean
    something, and a smaller one than before means that the count began again. None: the source does not count it.
    """

    taken_at: float
    lag_seconds: float
    """Age of the oldest helpable item; 0 without one."""
    backlog: int
    """Helpable items."""
    late: int = 0
    """Helpable items older than the target lag."""
    in_flight: int | None = None
    """Items that live workers hold."""
    arrived: int | None = None
    ended: int | None = None
    failed: int | None = None
    due_soon: int = 0
    """Items that become ready by themselves within the lead time that was asked for."""
    blocked: int = 0
    """Ready items that no further worker could take."""
    blocked_seconds: float = 0.0
    """Age of the oldest blocked item; 0 without one."""
    phantoms: int = 0
    """Items marked as running that no live worker holds."""
    is_truncated: bool = False
    """True when a row limit was met: backlog, late and blocked are then lower bounds."""
    hides_completions: bool = False
    """True when ended items vanish from the queue's tables, so that they cannot be counted."""
    leading: tuple[int, ...] = ()
    """The helpable items that the workers take next, in the order of the library; empty where the source has none."""
    eldest: tuple[WaitingItem, ...] = ()
    """The helpable items that have waited longest, oldest first, at most 50."""
    stuck: tuple[StuckItem, ...] = ()
    """Some of the blocked items that workers pass over, first in the order of the library; at most 5."""
    busy_hosts: frozenset[str] | None = None
    """Names or addresses of the pods of all workers that hold items; None: the source does not tell."""
    job_seconds: float | None = None
    """99 of 100 attempts that ended lately were shorter; None: not known."""
    in_hand_seconds: float = 0.0
    """Age of the oldest attempt that a live worker runs now; 0 without one, or if that is not known."""
    early_seconds: float = 0.0
    """So far after the database's time the oldest item was written, where that is worth a word; its age counts as 0."""


@dataclass(frozen=True, slots=True)
class QueueQuestion:
    """What a sample needs to know: the moment (monotonic seconds) and the two spans its counts refer to.

    `within_seconds` is how soon the answer is wanted: of several questions, the most urgent one is asked first.
    `is_shrinking`: workers may soon go, so that it matters how long jobs take.
    """

    asked_at: float
    target_lag_seconds: float
    lead_time_seconds: float
    within_seconds: float = 5.0
    is_shrinking: bool = False
