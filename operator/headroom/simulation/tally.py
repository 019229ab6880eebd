"""What is counted during a run."""

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """Counts since the start of a run, and times in seconds.

    `arrived` became claimable. `late_seconds` is how long the oldest job had waited for longer than `target_lag`,
    `highest_lag` the longest wait. `cut` are the jobs of workers whose grace period ended.
    """

    target_lag: float
    arrived: int = 0
    ended: int = 0
    failed: int = 0
    cut: int = 0
    highest_lag: float = 0.0
    late_seconds: float = 0.0
    _late_until: float = -math.inf

    def forget(self) -> None:
        """Begin again with what is measured; what a probe counts continues."""
        self.cut, self.highest_lag, self.late_seconds = 0, 0.0, 0.0

    def count_wait(self, since: float, now: float) -> None:
        """A wait that ends now. Claims come in the order of arrivals: late times join without gaps or overlaps."""
        self.highest_lag = max(self.highest_lag, now - since)
        late_from = max(since + self.target_lag, self._late_until)
        if now > late_from:
            self.late_seconds += now - late_from
            self._late_until = now
