"""What the sessions of a pool's workers wait for, counted over several samples, and what that says of its limit."""

from dataclasses import dataclass

from headroom.model.waits import LOCK_PREFIX, Blocker, WaitSample
from headroom.policy.workerpool.constants import (
    LOCK_SHARE,
    WAIT_SAMPLES,
    WAIT_SAMPLES_KEPT,
    WAIT_SIGHTINGS,
)
from headroom.policy.workerpool.gain_constants import (
    BUSY_SHARE,
    NAMED_SAMPLES,
)

IDLE = "Idle"
"""What is named where the sessions are mostly idle in the database: something else limits their workers."""
CLIENT_PREFIX = "Client:"
"""A session that waits for its client is not busy in the database."""


@dataclass(frozen=True, slots=True)
class WaitTally:
    """Sightings of busy sessions by wait event, over several samples at one count of workers."""

    events: tuple[tuple[str, float], ...] = ()
    samples: float = 0.0
    blocker: Blocker | None = None

    @property
    def sightings(self) -> float:
        """Busy sessions that were seen."""
        return sum(count for _, count in self.events)

    def add(self, sample: WaitSample) -> "WaitTally":
        """The tally with one more sample; an old one forgets half of itself."""
        factor = 0.5 if self.samples >= WAIT_SAMPLES_KEPT else 1.0
        counts = {name: count * factor for name, count in self.events}
        for name, count in sample.events:
            counts[name] = counts.get(name, 0.0) + count
        return WaitTally(tuple(sorted(counts.items())), self.samples * factor + 1, sample.blocker or self.blocker)

    @property
    def is_known(self) -> bool:
        """True when enough was seen, often enough: sessions that wait for one lock are seen together."""
        return self.samples >= WAIT_SAMPLES and self.sightings >= WAIT_SIGHTINGS

    def share(self, event: str) -> float | None:
        """The share of one event; None while too little was seen."""
        if not self.is_known:
            return None
        return sum(count for name, count in self.events if name == event) / self.sightings

    @property
    def is_lock(self) -> bool:
        """True when sessions wait for locks far more than in a healthy queue."""
        locked = sum(count for name, count in self.events if name.startswith(LOCK_PREFIX))
        return self.sightings > 0 and locked >= LOCK_SHARE * self.sightings

    @property
    def is_lock_known(self) -> bool:
        """True when enough was seen to say that sessions wait for locks."""
        return self.is_lock and self.is_known

    def find_cause(self, workers: int) -> str | None:
        """The event that says most about a throughput that does not rise with so many workers; None: not known.

        That is a lock if there are many waits for locks, `IDLE` if too few sessions are busy for the database to be the
        limit, else the largest.
        """
        if self.is_lock and self.samples >= NAMED_SAMPLES and self.sightings >= WAIT_SIGHTINGS:
            locks = [(count, name) for name, count in self.events if name.startswith(LOCK_PREFIX)]
            return max(locks)[1]
        if self.samples < WAIT_SAMPLES:
            return None
        busy = [(count, name) for name, count in self.events if not name.startswith(CLIENT_PREFIX)]
        if sum(count for count, _ in busy) < BUSY_SHARE * workers * self.samples:
            return IDLE
        return max(busy)[1]


NOTHING_SEEN = WaitTally()
