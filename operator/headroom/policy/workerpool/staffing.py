"""How many slots a steady load needs so that hardly anything waits longer than the target lag: Erlang's C formula."""

import math

from headroom.policy.workerpool.constants import LATE_PROBABILITY, MOST_UTILIZATION, SERVICE_CV_SQUARED

ROUNDING = 1e-9
"""A ratio this little above a whole number is that number: floating point, not load."""
NORMAL_ABOVE = 30.0
NORMAL_QUANTILE = 2.33
"""Of 99 %."""
SETTLED_SIGMAS = 7.0
"""The recurrence may begin this many roots of the load below it: what it began with weighs exp(-24) at the load."""
LARGE_LOAD = 3000.0
"""From here on the idle twentieth of MOST_UTILIZATION is 2.9 roots of the load, and fewer than 0.3 % of the arrivals
find all slots busy: nothing is left to count, however short the target lag."""


def slots_for(arrivals: float, service_rate: float, target_lag_seconds: float, arrivals_cv_squared: float = 1.0) -> int:
    """The fewest slots s of a load rho = arrivals / service rate with P(wait > target lag) <= 1 % and rho / s <= 0.95.

    P = C(s, rho) exp(-(s m - a) T 2 / (Ca^2 + Cs^2)): Erlang C with the Allen-Cunneen factor for variable arrivals and
    service times. Rates per second; 0 slots for no load.
    """
    load = arrivals / service_rate
    if load <= 0:
        return 0
    least = max(1, ceil(load / MOST_UTILIZATION))
    decay = 2 * service_rate * target_lag_seconds / (max(1.0, arrivals_cv_squared) + SERVICE_CV_SQUARED)
    if (least - load) * decay >= -math.log(LATE_PROBABILITY):
        return least
    if load >= LARGE_LOAD:
        return least
    slots = max(0, math.floor(load - SETTLED_SIGMAS * math.sqrt(load)))
    # The inverse of Erlang B, which never underflows: 1/B(s) = 1 + s / rho / B(s - 1).
    inverse = 1.0 if slots == 0 else load / (load - slots)
    while slots < least or _waiting(slots, load, inverse) * math.exp((load - slots) * decay) > LATE_PROBABILITY:
        slots += 1
        inverse = 1 + slots / load * inverse
    return slots


def _waiting(slots: int, load: float, inverse_loss: float) -> float:
    """Erlang C from Erlang B: the share of arrivals that find all slots busy."""
    return 1 / (inverse_loss * (1 - load / slots) + load / slots)


def most_arrivals(mean: float) -> int:
    """The fewest k with P(more than k arrivals) <= 1 %, Poisson; by the normal distribution where that is as good."""
    if mean > NORMAL_ABOVE:
        return math.ceil(mean + NORMAL_QUANTILE * math.sqrt(mean))
    count, term = 0, math.exp(-mean)
    missing = 1 - term
    while missing > LATE_PROBABILITY:
        count += 1
        term *= mean / count
        missing -= term
    return count


def ceil(value: float) -> int:
    """The whole number of workers or slots that a ratio asks for."""
    return math.ceil(value - ROUNDING * max(1.0, abs(value)))
