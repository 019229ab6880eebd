"""What Ready says of a pool that works: what it scales, the next schedule, and what else a person should know."""

from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.workerpool import Direction
from headroom.model.condition_types import ConditionType
from headroom.model.numbers import count_of, describe_seconds, round_number
from headroom.policy.schedules import describe_moment
from headroom.policy.workerpool import Target
from headroom.policy.workerpool.hang import Hang
from headroom.policy.workerpool.jobs import JobsInHand
from headroom.policy.workerpool.victims import GRACE_SPARE, describe_remedy
from headroom.reasons import Reason
from headroom.reconcilers.workerpool.growth_words import RESTART
from headroom.reconcilers.workerpool.memory import PoolContext

IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName")
DESCRIBE = "see kubectl describe pod -l {pods} -n {namespace}"
START_REMEDIES = (
    (IMAGE, "correct the image, or kubectl rollout undo {target} -n {namespace}"),
    (("cannot be scheduled",), "lower the requests of the pods of {target}, or add a node"),
    (("CrashLoopBackOff",), "read kubectl logs -l {pods} -n {namespace} --previous and correct the worker"),
)
"""What to do by words of the trouble; the first that fits."""
STOPPED = {Direction.UP: "no worker is added", Direction.DOWN: "no worker is taken away"}


def describe_work(context: PoolContext) -> tuple[Reason, str]:
    """The reason and the message of a pool whose target can be scaled; the gravest notice comes first."""
    mode, target = context.spec.mode, context.facts.workload
    if target is None:
        what = f"spec.mode is {mode}: nothing is scaled" if mode is not Mode.ACTIVE else "a CronJob is never scaled"
    elif mode is Mode.ACTIVE:
        what = f"{target} is scaled by this pool"
    elif mode is Mode.PAUSED:
        what = f"spec.mode is {mode}: nothing is scaled"
    else:
        what = f"spec.mode is {mode}: nothing is scaled, and lastDecision says what would be"
    notices = _find_notices(context)
    reason = notices[0][0] if notices else Reason.AS_EXPECTED
    return reason, "; ".join([*(text for _, text in notices if text), what, *_describe_schedules(context)])


def describe_start_trouble(context: PoolContext, target: Target) -> str:
    """How many workers run, why new ones do not, and what to do about it."""
    stuck, pods = target.pods.stuck or "", target.pods
    remedy = next((text for words, text in START_REMEDIES if any(word in stuck for word in words)), DESCRIBE)
    text = remedy.format(target=target, pods=_selector(target), namespace=context.namespace)
    return f"{pods.ready} of {count_of(target.present, 'worker is', 'workers are')} ready; {stuck}; {text}"


def describe_hang(context: PoolContext, hang: Hang, target: Target) -> str:
    """That no job ends, and what to do about it; of jobs that hang nobody knows how long they take."""
    sample = context.facts.sample
    held = count_of(0 if sample is None else sample.in_flight or 0, "job is", "jobs are")
    fact = f"{held} in flight, and none has ended for {describe_seconds(hang.seconds)} (one took {_describe_job(hang)})"
    logs = f"kubectl logs -l {_selector(target)} -n {context.namespace}"
    can_restart = str(target).startswith(("deployment/", "statefulset/"))
    restart = RESTART.format(target, context.namespace) if can_restart else f"restart {target}"
    return f"{fact}: see what they wait for with {logs}, then {restart}"


def _describe_job(hang: Hang) -> str:
    return f"{round_number(hang.job_seconds):g} s" if hang.job_seconds < 1 else describe_seconds(hang.job_seconds)


def _selector(target: Target) -> str:
    return ",".join(f"{name}={value}" for name, value in target.labels or ())


def _find_notices(context: PoolContext) -> list[tuple[Reason, str]]:
    spec, target, sizing = context.spec, context.facts.workload, context.decision.sizing
    notices: list[tuple[Reason, str]] = []
    if spec.mode is not Mode.ACTIVE:
        notices.append((Reason.PAUSED if spec.mode is Mode.PAUSED else Reason.DRY_RUN, ""))
    if target is not None and target.pods.stuck is not None:
        notices.append((Reason.WORKERS_NOT_STARTING, describe_start_trouble(context, target)))
    hang, failures = context.decision.hang, context.decision.failures
    if hang is not None and target is not None:
        notices.append((Reason.JOBS_NOT_ENDING, describe_hang(context, hang, target)))
    if failures.are_most:
        notices.append((Reason.JOBS_FAILING, f"{failures}: read the workers' logs and correct the job"))
    if sizing is not None and target is not None and hang is None and _is_grace_too_short(context, sizing.jobs):
        notices.append((Reason.GRACE_TOO_SHORT, f"{sizing.jobs}: {describe_remedy(sizing.jobs.job_seconds)}"))
    if spec.paused is not None and spec.mode is Mode.ACTIVE:
        text = f"spec.paused is {spec.paused}: {STOPPED[spec.paused]}; remove it to continue"
        notices.append((Reason.PAUSED, text))
    return notices


def _is_grace_too_short(context: PoolContext, jobs: JobsInHand) -> bool:
    """With two bounds: how long jobs take is measured repeatedly, and the verdict must not turn with it. The grace
    period that the message asks for is within both.
    """
    if jobs.job_seconds is None or jobs.grace_seconds is None:
        return False
    was_too_short = context.condition(ConditionType.READY).get("reason") == Reason.GRACE_TOO_SHORT
    return jobs.job_seconds * (GRACE_SPARE if was_too_short else 1.0) > jobs.grace_seconds


def _describe_schedules(context: PoolContext) -> list[str]:
    """Until when the schedule holds that raises the minimum, and when the next one begins."""
    limits, following, ends = context.decision.limits, context.decision.next_schedule, context.decision.schedule_ends
    schedules = {schedule.name: schedule for schedule in context.spec.schedules}
    keeps = "keeps" if context.spec.mode is Mode.ACTIVE else "would keep"
    parts = []
    if limits.schedule is not None:
        until = f" until {describe_moment(ends, schedules[limits.schedule].time_zone)}" if ends is not None else ""
        parts.append(f"the schedule {limits.schedule} {keeps} {limits.min_workers}{until}")
    if following is not None:
        least = schedules[following.name].min_workers
        parts.append(f"the schedule {following.name} {keeps} {least} from {following.text}")
    return parts
