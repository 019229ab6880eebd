"""What only a row of looks can tell: how long a stream is broken, how often a server ended of late, an idle slot.

Kept in memory: a new process begins to count anew, so that it gives nothing up sooner than an old one would have.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from headroom.model.database import SlotFacts
from headroom.model.replica import Lag, PodFacts
from headroom.policy.replicaset.stream_loss import find_position
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.memory import MemberMemory, SetMemory

PEACE = timedelta(minutes=10)
"""A server that ran for so long is out of its crash loop; the kubelet forgets its back-off after the same time."""
STREAMS_SECONDS = 5.0
"""A receiver whose WAL is gone connects for a moment at each try: a stream has to last to count as mended."""
LONGEST_STEP_SECONDS = 10.0
"""What lies between two looks further apart was not seen."""


def note_histories(
    memory: SetMemory, pods: Iterable[PodFacts], slots: Iterable[SlotFacts], *, at: float, now: datetime
) -> None:
    """Take up one look; `at` is monotonic seconds."""
    memory.peaceful_restarts = {pod.uid: _count_peaceful(memory.peaceful_restarts, pod, now) for pod in pods}
    memory.idle_slots = {slot.name: memory.idle_slots.get(slot.name, at) for slot in slots if not slot.is_active}
    for known in memory.members.values():
        _note_stream(known, at)


def count_restarts(memory: SetMemory, pod: PodFacts | None) -> int:
    """How often the server of a pod ended since it last ran in peace, as far as this process saw."""
    return 0 if pod is None else pod.server.restarts - memory.peaceful_restarts.get(pod.uid, 0)


def measure_idle(idle_slots: Mapping[str, float], slot: SlotFacts | None, at: float) -> float:
    """How long nobody has used a slot; `idle_slots` tells since when this process has seen it idle."""
    return 0.0 if slot is None else slot.idle_seconds(at - idle_slots.get(slot.name, at))


def _count_peaceful(before: Mapping[str, int], pod: PodFacts, now: datetime) -> int:
    """Restarts that are history; all that came before the first look are."""
    server = pod.server
    is_in_peace = pod.is_ready and server.started_at is not None and now - server.started_at >= PEACE
    return server.restarts if is_in_peace else before.get(pod.uid, server.restarts)


def _note_stream(known: MemberMemory, at: float) -> None:
    """Count the time in which it was seen broken; silence says nothing, and any WAL that moves begins it anew."""
    step = min(at - known.noted_at, LONGEST_STEP_SECONDS) if known.noted_at is not None else 0.0
    known.noted_at = at
    if known.unanswered or known.probe is None:
        return
    position = find_position(known.probe)
    has_moved, known.position = position != known.position, position
    is_broken = known.lag is not None and known.lag.refusal is Reason.NOT_STREAMING
    if is_broken:
        known.streams_since = None
        known.broken_seconds = 0.0 if has_moved else known.broken_seconds + step
        return
    known.streams_since = known.streams_since if known.streams_since is not None else at
    if has_moved or _is_unknown(known.lag) or at - known.streams_since >= STREAMS_SECONDS:
        known.broken_seconds = 0.0


def _is_unknown(lag: Lag | None) -> bool:
    """The primary was not asked, or did not answer: a stream that is down then is no fault of the member."""
    return lag is None or (lag.refusal is None and lag.seconds is None)
