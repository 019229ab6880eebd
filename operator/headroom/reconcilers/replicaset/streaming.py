"""Streaming: the server accepts connections and its receiver is connected on the primary's timeline.

Nothing is done here but to look: the pod starts by itself once it is seeded, and only its own probe tells the rest.
"""

from headroom.reasons import ConditionType

CONDITION = ConditionType.STREAMING
