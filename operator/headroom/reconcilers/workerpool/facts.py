"""What a pass gathered about a pool's queue and target, and what it made of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headroom.api.v1alpha1.common import Mode
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec
from headroom.model.queue import QueueSample
from headroom.policy.workerpool import Outcome, PoolHistory, ScalingLimits, SignalGap
from headroom.ports.kube import Manifest, Scale
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a reference of the spec does not work; the message says what to do."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of a target.

    `running` could hold jobs, `ready` are Ready, `in_time` are ready or will be soon. `lead_seconds` is how long a
    start takes (None: none was seen), `stuck` why new pods do not come up.
    """

    running: int
    ready: int
    in_time: int
    lead_seconds: float | None = None
    stuck: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """The workload that is scaled."""

    scale: Scale
    pods: Pods

    def __str__(self) -> str:
        return f"{self.scale.ref.kind.name.lower()}/{self.scale.ref.name}"


@dataclass(frozen=True, slots=True)
class Signal:
    """A fresh sample, or why there is none.

    A brief gap is likely to pass, after answers, and has only begun: it takes no Ready away. An early one is of a guard
    that this process has hardly had the time to look at.
    """

    sample: QueueSample | None = None
    gap: SignalGap | None = None
    is_brief: bool = False
    is_early: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass once it has decided.

    `target` is None, and so is `problem`, for a pool that scales nothing; `outcome` is there with a target.
    `written` is the count that was written in this pass, `refusal` why it could not be.
    """

    body: Manifest
    spec: WorkerPoolSpec
    limits: ScalingLimits
    signal: Signal
    history: PoolHistory
    now: float
    target: Target | None = None
    problem: Problem | None = None
    outcome: Outcome | None = None
    written: int | None = None
    refusal: Problem | None = None
    lead_seconds: float | None = None

    @property
    def status(self) -> Mapping[str, Any]:
        """The status before this pass."""
        return self.body.get("status") or {}

    @property
    def trouble(self) -> Problem | None:
        """What keeps the target from being scaled."""
        return self.problem or self.refusal

    @property
    def is_active(self) -> bool:
        """True when decisions are carried out."""
        return self.spec.mode is Mode.ACTIVE

    @property
    def lag_seconds(self) -> float | None:
        """Lag of the queue; None when it is not known."""
        return None if self.signal.sample is None else self.signal.sample.lag_seconds

    def condition(self, name: str) -> Mapping[str, Any]:
        """A condition as it was before; empty when there is none."""
        return next((entry for entry in self.status.get("conditions") or () if entry["type"] == name), {})
