"""What the cluster tool refuses to do, in one sentence that says what to do instead."""

from __future__ import annotations


class ClusterError(Exception):
    """A failure whose message is complete for the user: no traceback is shown."""
