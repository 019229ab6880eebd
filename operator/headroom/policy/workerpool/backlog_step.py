"""Growth where a queue tells only its lag and its backlog: twice the workers, then another sample of the backlog.

Nothing tells what arrives or ends. But the backlog of workers that help grows more slowly beside more of them, while as
much arrives as before. If it does not, the pool may have twice the workers once in each deadline at most.
"""

from dataclasses import replace

from headroom.policy.workerpool.constants import GROWTH_FACTOR, LEARNING_STEP_SECONDS, SETTLING_SECONDS, WINDOW_JOBS
from headroom.policy.workerpool.gain_memory import BacklogStep, GainFacts, GainMemory, GainRules

FALLEN_GROWTH_SHARE = 0.9
"""A backlog that grows by more than this share of what it grew by before has not felt the further workers."""
LEAST_ITEMS = WINDOW_JOBS / 2
"""Items by which the backlog must have grown while it was measured; a slower queue is not measured."""


def follow_backlog(memory: GainMemory, seen: GainFacts, rules: GainRules) -> GainMemory:
    """The memory after one more pass over a queue that does not tell what ends."""
    step, growth, ready = memory.backlog_step, seen.backlog_growth, seen.ready
    is_steady = seen.at - memory.ready_since >= SETTLING_SECONDS + LEARNING_STEP_SECONDS
    is_growing = growth is not None and growth * LEARNING_STEP_SECONDS >= LEAST_ITEMS
    if growth is None or ready == 0:
        return memory
    if not is_growing:
        # The workers are enough, or the queue is too slow to say.
        return replace(memory, backlog_step=None) if is_steady or step is None else memory
    if step is None or (is_steady and ready <= step.workers):
        return replace(memory, backlog_step=BacklogStep(ready, growth, seen.at))
    has_helped = is_steady and growth < FALLEN_GROWTH_SHARE * step.growth
    if has_helped or seen.at - step.since >= rules.drain_within_seconds:
        return replace(memory, backlog_step=BacklogStep(ready, growth, seen.at))
    return memory


def limit_backlog(memory: GainMemory) -> int | None:
    """Workers at most until the backlog has shown whether the last ones helped; None without a limit."""
    return None if memory.backlog_step is None else int(GROWTH_FACTOR * memory.backlog_step.workers)
