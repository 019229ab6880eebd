"""Which workers go when a count is lowered, and that none goes with a job it could not finish.

The controller of a Deployment ends pods that are not ready first, then those of the lowest deletion cost, then the
youngest ones. So only workers that are known to be idle are marked; the others stay in its order. A cost by the pod's
age would say the same again, except that of pods of one cost those on the fullest node go before younger ones.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from headroom.model.numbers import count_of
from headroom.policy.workerpool.chain_input import ChainInput, Rule, Ruling
from headroom.policy.workerpool.constants import MOST_MARKS
from headroom.policy.workerpool.jobs import JobsInHand
from headroom.reasons import Reason

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
GRACE_SPARE = 1.1
"""A grace period this many times as long as the jobs is enough: it is what a message asks for."""
IDLE_COST = "-1000"
"""Below the default of 0. Another value than this is not ours: it is neither changed nor removed."""


@dataclass(frozen=True, slots=True)
class WorkerPod:
    """A pod that may be ended; `hosts` are the names and addresses by which a queue library may know its worker."""

    name: str
    uid: str
    hosts: frozenset[str]
    is_ready: bool
    cost: str | None = None


@dataclass(frozen=True, slots=True)
class Marks:
    """Pods that get our mark, and pods that lose it; `idle` pods there are in all."""

    idle: int
    marked: tuple[WorkerPod, ...] = ()
    unmarked: tuple[WorkerPod, ...] = ()


def choose_victims(pods: Sequence[WorkerPod], busy_hosts: Set[str], count: int) -> Marks:
    """Mark so many idle pods; a mark that a step before has left on another pod is removed.

    A busy host that is not one of these pods may be one of them by another name: then no pod counts as idle.
    """
    is_complete = busy_hosts <= {host for pod in pods for host in pod.hosts}
    idle = [pod for pod in pods if is_complete and not pod.hosts & busy_hosts]
    # Pods that are not ready go first in any case, and an existing mark needs no write.
    ready = sorted((pod for pod in idle if pod.is_ready and pod.cost in (None, IDLE_COST)), key=_preference)
    waiting = sum(not pod.is_ready for pod in pods)
    chosen = ready[: min(max(0, count - waiting), MOST_MARKS)]
    return Marks(
        idle=len(idle),
        marked=tuple(pod for pod in chosen if pod.cost is None),
        unmarked=tuple(pod for pod in pods if pod.cost == IDLE_COST and pod not in chosen),
    )


def check_grace(chain_input: ChainInput, allowed: int) -> Ruling | None:
    """A worker that runs a job ends only if it can finish that job within its grace period."""
    jobs, present = chain_input.jobs, chain_input.present
    if allowed >= present or jobs.busy == 0 or jobs.is_grace_enough:
        return None
    if not jobs.is_counted:
        message = "the grace period of the pods has not been read yet"
        return Ruling(Rule.WORK_IN_FLIGHT, present, Reason.WORK_IN_FLIGHT, message)
    # If the grace period is not known, as many stay as have jobs.
    spare = max(0, present - jobs.busy)
    least = max(allowed, present - min(spare if jobs.grace_seconds is None else jobs.idle or 0, spare))
    if least == allowed:
        return None
    if jobs.is_grace_too_short:
        return Ruling(Rule.GRACE_TOO_SHORT, least, Reason.GRACE_TOO_SHORT, describe_grace(jobs))
    message = f"{count_of(jobs.busy, 'worker has', 'workers have')} jobs, and how long those take is not known"
    return Ruling(Rule.WORK_IN_FLIGHT, least, Reason.WORK_IN_FLIGHT, message)


def describe_grace(jobs: JobsInHand) -> str:
    """Why workers with jobs stay, and the remedy."""
    known = "only idle workers may go" if jobs.idle is not None else "which workers are idle is not known"
    return f"{jobs}: {known}; {describe_remedy(jobs.job_seconds)}"


def describe_remedy(job_seconds: float | None) -> str:
    """What to set so that no job is cut."""
    seconds = round_up(job_seconds or 0)
    return f"set spec.template.spec.terminationGracePeriodSeconds of the workers to {seconds} or more"


def round_up(seconds: float) -> int:
    """The next ten seconds above, with a tenth to spare: a job must end, and the worker after it."""
    return int(-(-GRACE_SPARE * seconds // 10) * 10)


def _preference(pod: WorkerPod) -> tuple[bool, str]:
    return (pod.cost is None, pod.name)
