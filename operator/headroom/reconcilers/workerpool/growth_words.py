"""What people read of a freeze: why growth stopped, what to correct, and what lets the pool grow again."""

from collections.abc import Mapping
from dataclasses import dataclass

from headroom.model.moments import Moment
from headroom.model.numbers import count_of
from headroom.model.waits import CPU, LOCK_PREFIX
from headroom.policy.workerpool.gain_memory import MANY, Freeze, GainMemory, Lift, Phase
from headroom.policy.workerpool.growth import describe_freeze
from headroom.policy.workerpool.holding import find_try
from headroom.policy.workerpool.wait_tally import IDLE

RESTART = "kubectl rollout restart {} -n {}"
ESTIMATED = "as lag and backlog tell"
LIFTS: Mapping[Lift, str] = {
    Lift.TEMPLATE: "the pod template has changed",
    Lift.WAITS: "the workers wait for it only half as much",
    Lift.THROUGHPUT: "the same workers do clearly more now",
    Lift.RETRIED: "more workers were tried, and did more",
    Lift.FEWER_DO_LESS: "fewer workers did less",
    Lift.SERVICE_SLOWED: "fewer workers did no more each, so that jobs or database became slower by themselves",
    Lift.NOT_NEEDED: "for some minutes the queue asked for no more workers, or other limits allowed no more",
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a text needs beside the freeze: the target with its namespace, and the counts of this pass.

    `ready` workers are there, the queue asks for `wanted`, and the spec allows `most`. `has_template` says whether a
    new pod template of the target would be seen, `is_estimated` that only lag and backlog tell what is done.
    """

    target: str
    namespace: str
    ready: int
    wanted: int = MANY
    most: int = MANY
    has_template: bool = True
    is_estimated: bool = False


def describe_lift(why: Lift) -> str:
    """Why the pool may grow again."""
    return f"the pool may grow again: {LIFTS[why]}"


def describe_unmeasured(gain: GainMemory, now: Moment) -> str:
    """What a trial without a result says."""
    text = "whether fewer workers do as much could not be measured: they were not taken away, or had too little work"
    if gain.trial_at <= now.monotonic:
        return text
    return f"{text}; it is tried again from {now.to_wall(gain.trial_at):%H:%M:%S} UTC"


def describe_stop(freeze: Freeze, now: Moment, around: Surroundings) -> str:
    """Why growth stopped, what to correct, and when more workers are tried."""
    told = f", {ESTIMATED}" if around.is_estimated else ""
    text = f"{describe_freeze(freeze)}{told}: {describe_cause(freeze)}"
    retry = _describe_retry(freeze, now, around)
    if not around.has_template:
        return f"{text}; correct that; {retry}"
    if around.target.startswith(("deployment/", "statefulset/")):
        restart = RESTART.format(around.target, around.namespace)
        return f"{text}; correct that, and {restart} lets the pool grow at once; {retry}"
    return f"{text}; correct that; a new pod template lets the pool grow at once; {retry}"


def _describe_retry(freeze: Freeze, now: Moment, around: Surroundings) -> str:
    """When more workers are tried, where nothing else keeps the pool from it."""
    if freeze.phase is Phase.RETRYING:
        return f"{count_of(min(freeze.allowed, around.most), 'worker')} are tried again now"
    held = max(freeze.workers, around.ready)
    if around.most <= held:
        return f"no more are tried while the spec allows {around.most}"
    if find_try(freeze, around.ready) <= around.ready:
        return f"the {around.ready} that are still there are watched until they do more"
    if around.wanted <= held:
        return "else more workers are tried once the queue asks for them"
    return f"else more workers are tried from {now.to_wall(freeze.retry_at):%H:%M:%S} UTC"


def describe_cause(freeze: Freeze) -> str:
    """What the workers' sessions wait for, and who holds it."""
    if freeze.wait is None:
        return "what they wait for is not known; with databaseRef and databaseRole it is named"
    if freeze.wait == IDLE:
        return "their sessions are mostly idle, so what limits them is outside of the database"
    if freeze.wait == CPU:
        return "their statements use the processors of the database, which is at its limit"
    text = f"they wait for {freeze.wait}"
    if freeze.statement and freeze.wait.startswith(LOCK_PREFIX):
        idle = " (idle in transaction)" if freeze.is_idle_blocker else ""
        text += f", held by `{freeze.statement}`{idle}"
    return text
