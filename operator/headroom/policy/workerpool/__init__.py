"""How many workers a pool should have: pure functions of samples, limits, memory and `now` (monotonic seconds).

samples -> intervals (`window`) -> rates (`rates`) -> wanted (`wanted`) -> the chain of limits (`chain`) -> decision.
`decide` puts them together; `history` is what one pass leaves to the next.
"""

from headroom.policy.workerpool.chain_input import Decision, Rule, SignalGap, is_spare
from headroom.policy.workerpool.decide import Facts, Outcome, decide_workers, drain_seconds
from headroom.policy.workerpool.history import ForeignWrites, Move, PoolHistory
from headroom.policy.workerpool.limits import ScalingLimits, limits_of

__all__ = [
    "Decision",
    "Facts",
    "ForeignWrites",
    "ScalingLimits",
    "Move",
    "Outcome",
    "Rule",
    "SignalGap",
    "PoolHistory",
    "decide_workers",
    "drain_seconds",
    "is_spare",
    "limits_of",
]
