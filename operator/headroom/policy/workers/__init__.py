"""How many workers a pool should have: pure functions of samples, knobs, memory and `now` (monotonic seconds).

samples -> intervals (`window`) -> rates (`rates`) -> wanted (`wanted`) -> the chain of limits (`chain`) -> decision.
`decide` puts them together; `track` is what one pass leaves to the next.
"""

from headroom.policy.workers.decide import Facts, Outcome, decide_workers, drain_seconds
from headroom.policy.workers.knobs import Knobs, knobs_of
from headroom.policy.workers.situation import Decision, Rule, SignalGap, is_spare
from headroom.policy.workers.track import ForeignWrites, Move, Track

__all__ = [
    "Decision",
    "Facts",
    "ForeignWrites",
    "Knobs",
    "Move",
    "Outcome",
    "Rule",
    "SignalGap",
    "Track",
    "decide_workers",
    "drain_seconds",
    "is_spare",
    "knobs_of",
]
