"""What happens when, and what must come out: the incident `tebex_2019`, hours made into minutes.

A profile is a line through points of (seconds, value); both loads rise together, as they did on that evening: first
the queue, then the reads, until more of both is asked than the evening's size can bear.
"""

from dataclasses import dataclass

Profile = tuple[tuple[float, float], ...]

ARRIVALS: Profile = ((0, 4), (15, 4), (28, 30), (95, 30), (110, 4), (240, 4))
"""Jobs a second put into the queue."""
READERS: Profile = ((0, 30), (15, 30), (90, 180), (130, 180), (140, 40), (240, 40))
"""Connections that readers hold open through the read Service."""
JOBS_END, LOAD_ENDS = 110.0, 140.0
"""When the burst of jobs is over, and when that of reads is."""
LONGEST = 240.0
"""Seconds after which the demo ends, whatever the lag is then."""

SERVICE_SECONDS = 0.1
MAX_CONNECTIONS = 100
SUPERUSER_RESERVED, RESERVED = 3, 5
CLIENT_CONNECTIONS = MAX_CONNECTIONS - SUPERUSER_RESERVED - RESERVED
"""What one replica leaves to clients, by which the operator measures how much of it is used."""
UTILIZATION_PERCENT = 70
TOLERANCE_PERCENT = 10
THRESHOLD_CONNECTIONS = CLIENT_CONNECTIONS * UTILIZATION_PERCENT / 100 * (1 + TOLERANCE_PERCENT / 100)
"""Of one replica: above it a second one is asked for; the tolerance is the API's default."""
TARGET_LAG_SECONDS = 10
PGBENCH_SCALE = 150
"""15 million accounts, about 2.2 GiB."""


@dataclass(frozen=True, slots=True)
class Objectives:
    """Upper bounds; seconds unless the name says otherwise."""

    warm_first_read: float = 1.0
    threshold_to_first_read: float = 3.0
    lag_peak: float = 60.0
    lag_zero_after: float = 60.0
    failed_reads_count: float = 0
    snapshot_first_read: float = 6.0
    guard_worse_by_copy: float = 0.0


OBJECTIVES = Objectives()
