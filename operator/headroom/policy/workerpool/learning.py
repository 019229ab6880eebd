"""How many workers while a rate is not known: as careful steps up, and down, as what waits and is in flight allows."""

import math

from headroom.policy.workerpool.constants import (
    CALM_STEP_PERCENT,
    LEARNING_MOST_FACTOR,
    LEARNING_STEP_SECONDS,
    SATURATED_SHARE,
)
from headroom.policy.workerpool.demand import Demand


def keep_workers(demand: Demand) -> tuple[int, str]:
    """The present workers of a queue that is not late, or fewer if a whole window shows that they are too many."""
    present = demand.present
    if demand.backlog == 0 and not demand.in_flight and not demand.arrivals and not demand.due_soon:
        return 0, "the queue is empty and nothing is being worked on"
    if demand.backlog > 0 and present == 0:
        return 1, "jobs wait and there is no worker"
    if demand.is_calm and demand.in_flight is None:
        step = max(1, present * CALM_STEP_PERCENT // 100)
        return max(1, present - step), "hardly anything has waited for long: fewer workers may be enough"
    return present, "it is not known yet how long a job takes; the workers stay as they are"


def double_workers(demand: Demand, seconds_left: float) -> int:
    """Twice the workers, once per pause, while all of them are busy and the backlog will not be gone in time."""
    present = demand.present
    if present == 0:
        return 1
    seconds = demand.backlog / -demand.backlog_growth if demand.backlog_growth < 0 else math.inf
    is_busy = demand.in_flight is None or demand.in_flight >= SATURATED_SHARE * demand.slots > 0
    if demand.since_start_seconds < LEARNING_STEP_SECONDS or not is_busy or seconds <= seconds_left:
        return present
    return max(present, min(2 * present, LEARNING_MOST_FACTOR * demand.ready_workers))
