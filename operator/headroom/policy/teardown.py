"""How long a deletion waits for what it cannot do, and when slots that a set left on its primary are swept."""

from datetime import timedelta

ABANDON_AFTER = timedelta(minutes=10)
"""A finalizer must not hang a namespace: after this the rest is reported and released."""
SWEEP_AFTER = timedelta(minutes=10)
"""A slot of ours that nobody has used for so long, and whose set is gone, is dropped."""
