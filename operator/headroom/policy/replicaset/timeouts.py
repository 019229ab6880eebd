"""How long each stage may take before it is reported or given up, and how often it is retried."""

from datetime import timedelta

CLAIM_NOTICE = timedelta(seconds=15)
"""A claim without a volume is reported after this; with late binding a few seconds are normal."""
PLACE_LIMIT = timedelta(minutes=15)
"""Then an attempt without a volume, a node or an image ends and its slot is released: a slot nobody reads keeps WAL.
Not sooner: a node autoscaler may take ten minutes until a node has joined, has its storage driver and pulls images."""
RESTORE_LIMIT = timedelta(minutes=10)
"""A driver creates a volume of a snapshot in seconds, or copies it first: then another source is faster."""
PREPARE_LIMIT = timedelta(minutes=10)
"""Time to connect and begin a copy, and for a phase of it without a separate limit. None of them is a stall."""
CHECKPOINT_LIMIT = timedelta(minutes=10)
"""A copy asks for a fast one: it takes what is left to write, and one that is under way is sped up."""
ESTIMATE_LIMIT = timedelta(minutes=10)
"""The server looks at each file once: some million of them on a slow disk."""
WAL_LIMIT = timedelta(minutes=10)
"""For the last WAL: what is left when the files are copied was written in that time, and most of it has been sent."""
SYNC_LIMIT = timedelta(minutes=30)
"""What the page cache holds is written to the volume: 64 GiB at 40 MiB/s. It cannot be seen how far that is."""
SEED_RUNS = 2
"""Restarts of the seed step that are waited for while it copies; each run tries more than once."""
SERVER_RESTARTS_NOTICE = 3
SERVER_RESTARTS = 6
"""A member whose server ends this often in a row is given up and recreated, unless it serves."""
PEACE = timedelta(minutes=10)
"""Uptime after which restarts no longer count as a crash loop; the kubelet forgets its back-off after the same time."""
DIVERGED_LIMIT = timedelta(minutes=1)
"""A failover moves all members to the new timeline within seconds. One that stays behind is then replaced if nobody can
tell where the timeline forked off."""
RECONNECT_LIMIT = timedelta(seconds=10)
"""A member that can follow the new primary and still streams from the old one is restarted after this."""
AUTHORITY_AGE_LIMIT = timedelta(days=1600)
"""A pod that is older is exchanged: it began with an authority that had at least 1,825 days left, half of its time."""
NODE_LOST_AFTER = timedelta(seconds=60)
GAP_LIMIT = timedelta(minutes=2)
"""A stream may still find WAL that no slot keeps, while the file exists: it tries every 5 s."""
STREAM_LOSS_LIMIT = timedelta(minutes=10)
"""The same if nothing shows that the WAL is gone; then others must stream, so that the cause is not the primary."""
IDLE_XMIN_LIMIT = timedelta(minutes=5)
"""A slot that nobody uses and that holds back vacuum on the primary."""
STREAM_LASTS_SECONDS = 5.0
"""A receiver whose WAL is gone connects for a moment at each try: a stream has to last to count as restored."""
LONGEST_STEP_SECONDS = 10.0
"""A longer time between two passes counts as not seen."""

READINGS_TO_ENTER = 2
READINGS_TO_LEAVE = 2
"""The promised bound is the leave bound plus one probe."""
PROBES_TO_LEAVE = 3
"""At one probe a second: after this many without an answer a replica leaves the Service."""
SILENCE_LIMIT = timedelta(minutes=10)
"""A member that does not answer us for so long, while others do, gets a new pod; if that one does not answer either, it
is given up. Not sooner: the kubelet restarts a server that does not answer it, and a node may come back."""
SILENCE_STEP_SECONDS = 1.0
"""At most one unanswered probe is counted in this time, however fast passes follow each other."""

ATTEMPTS_BEFORE_STALLED = 3
FIRST_RETRY = timedelta(seconds=10)
LONGEST_RETRY = timedelta(minutes=10)

IN_SERVICE_LIMIT = timedelta(seconds=5)
"""From label to a read that answers; then the member goes back, and the next one is tried."""
DRAIN_SETTLES = timedelta(seconds=2)
"""A connection may still arrive for a moment after the Service stopped listing the member."""
DRAIN_ENDING_LIMIT = timedelta(seconds=10)
"""How long to wait for sessions that are to end; one that is left then is not a client."""
PROBE_PERIOD = timedelta(seconds=2)
"""How far apart the readings of a calm set are: the promise is the bound and one probe."""
LAG_UNKNOWN_NOTICE = timedelta(seconds=10)
"""A serving replica whose lag is not known for so long is reported; the lag may have left the bound by then."""
OUTAGE_NOTICE = timedelta(seconds=5)
"""How long a primary may be silent before it is reported. No decision relies on it in that time either."""
NAMESPACE_PATIENCE = timedelta(seconds=30)
"""A primary that does not answer for so long in a namespace that ends has probably ended with it."""
POD_PATIENCE = timedelta(minutes=1)
"""A pod that outlives its grace period by this is on a node that does not answer: Kubernetes keeps it, not we."""

SNAPSHOT_LIMIT = timedelta(minutes=10)
"""A snapshot that is not taken by then is given up and taken again. Not sooner: its driver tries again by itself, and
the controller of a driver may be away for some minutes."""
SOURCE_XMIN_LIMIT = SNAPSHOT_LIMIT + timedelta(minutes=1)
"""No attempt needs a stopped source for longer, and its slot may hold back vacuum on the primary."""
SLOT_TOUCH = timedelta(minutes=1)
"""PostgreSQL 18 may give up slots that nobody uses (idle_replication_slot_timeout): those that we need are touched so
often, or more often where less than three times as long is set there."""


def retry_after(attempts: int) -> timedelta:
    """Pause before the next attempt once `attempts` have failed: 10 s, doubling, at most 10 min."""
    doublings = min(max(attempts - 1, 0), 10)
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)
