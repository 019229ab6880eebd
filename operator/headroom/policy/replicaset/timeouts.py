"""How long each stage may take before it is reported or given up, and how often it is tried."""

from datetime import timedelta

CLAIM_NOTICE = timedelta(seconds=15)
"""A claim without a volume is reported after this; with late binding a few seconds are normal."""
CLAIM_LIMIT = timedelta(minutes=3)
"""Then the attempt ends and its slot is released: a slot nobody reads keeps WAL on the primary."""
SCHEDULE_LIMIT = timedelta(minutes=5)
IMAGE_LIMIT = timedelta(minutes=10)
PREPARE_LIMIT = timedelta(minutes=10)
"""Connecting, the primary's checkpoint, the estimate and the final fsync: each is given this, none is a stall."""
SEED_RUNS = 2
"""Restarts of the seed step that are waited for while it copies; each run tries more than once."""
SERVER_RESTARTS_NOTICE = 3
SERVER_RESTARTS = 6
"""A member whose server ends this often without a time of peace is given up and recreated, unless it serves."""
PEACE = timedelta(minutes=10)
"""Uptime after which restarts no longer count as a crash loop; the kubelet forgets its back-off after the same time."""
DIVERGED_LIMIT = timedelta(minutes=1)
"""A failover moves all members to the new timeline within seconds; one that stays behind received past the fork."""
NODE_LOST_AFTER = timedelta(seconds=60)
GAP_LIMIT = timedelta(minutes=2)
"""A stream whose WAL is not kept may find it all the same, while the file is still there: it tries every 5 s."""
STREAM_LOSS_LIMIT = timedelta(minutes=10)
"""Where nothing shows that the WAL is gone; then others must stream, so that the cause is not the primary's."""
IDLE_XMIN_LIMIT = timedelta(minutes=5)
"""A slot that nobody uses and that holds back vacuum on the primary."""
STREAM_LASTS_SECONDS = 5.0
"""A receiver whose WAL is gone connects for a moment at each try: a stream has to last to count as restored."""
LONGEST_STEP_SECONDS = 10.0
"""What lies between two passes further apart was not seen."""

READINGS_TO_ENTER = 2
READINGS_TO_LEAVE = 2
"""The bound that is promised is the leave bound plus one probe."""
PROBES_TO_LEAVE = 3
"""At one probe a second: a replica that answers nothing for this many is taken out of the Service."""
SILENCE_STEP_SECONDS = 1.0
"""At most one unanswered probe is counted in this time, however fast passes follow each other."""

ATTEMPTS_BEFORE_STALLED = 3
FIRST_RETRY = timedelta(seconds=10)
LONGEST_RETRY = timedelta(minutes=10)

IN_SERVICE_LIMIT = timedelta(seconds=5)
"""From label to a read that answers; beyond it the member goes back and the next is taken."""
DRAIN_SETTLES = timedelta(seconds=2)
"""A connection may still be on its way for a moment after the Service stopped to list the member."""
DRAIN_ENDING_LIMIT = timedelta(seconds=10)
"""Sessions that were told to end are waited for this long; what is left then is not a client."""
OUTAGE_NOTICE = timedelta(seconds=5)
"""A primary that does not answer one probe is no news yet; no decision is made on it all the same."""
FIRST_SIGHT = timedelta(seconds=10)
"""A process that has just started has measured nothing: for so long its ignorance is no news either."""
POD_PATIENCE = timedelta(minutes=1)
"""After its grace period a pod that is still there is on a node that does not answer: Kubernetes keeps it, not we."""


def retry_after(attempts: int) -> timedelta:
    """Pause before the next attempt once `attempts` have failed: 10 s, doubling, at most 10 min."""
    doublings = min(max(attempts - 1, 0), 10)
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)
