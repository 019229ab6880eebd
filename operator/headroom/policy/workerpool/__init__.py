"""How many workers a pool should have: a pure function of its spec, what was observed, memory and `now`.

samples -> intervals (`window`) -> rates (`rates`) -> wanted (`wanted`) -> the chain of limits (`chain`) -> decision.
`decide` puts them together; `memory` is what one pass leaves to the next.
"""

from headroom.policy.workerpool.chain_input import Rule, ScalingDecision, Sizing, is_spare
from headroom.policy.workerpool.decide import PoolDecision, decide
from headroom.policy.workerpool.facts import PodCounts, PoolClaim, PoolFacts, ScalingLimits, Target, limits_of
from headroom.policy.workerpool.measure import lead_time
from headroom.policy.workerpool.memory import ForeignWrites, Move, PoolMemory
from headroom.policy.workerpool.verdict import SignalVerdict, Verdict

__all__ = [
    "ForeignWrites",
    "Move",
    "PodCounts",
    "PoolClaim",
    "PoolDecision",
    "PoolFacts",
    "PoolMemory",
    "Rule",
    "ScalingDecision",
    "ScalingLimits",
    "SignalVerdict",
    "Sizing",
    "Target",
    "Verdict",
    "decide",
    "is_spare",
    "lead_time",
    "limits_of",
]
