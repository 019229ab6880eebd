"""One pass while it acts: the facts, the decision, and what came of the steps."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from headroom.errors import Conflict, KubeUnavailable, NotLeading, Refused, Unavailable
from headroom.model.replica import MemberFacts
from headroom.ports.kube import KubeReader, KubeWriter
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.decide import Decision
from headroom.reconcilers.replicaset.facts import Problem, SetFacts

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Run:
    """Steps append to `problems` what they were refused; `has_moved` asks for the next pass at once."""

    facts: SetFacts
    decision: Decision
    decided_at: float
    problems: list[Problem] = field(default_factory=list)
    has_moved: bool = False

    @property
    def staying(self) -> tuple[MemberFacts, ...]:
        """Members that nobody has given up, in this pass or before."""
        leaving = {retirement.name for retirement in self.decision.plan.retire}
        return tuple(member for member in self.facts.members if not member.is_going and member.name not in leaving)

    @property
    def reader(self) -> KubeReader:
        """Live reads."""
        return self.facts.services.kube

    @property
    def writer(self) -> KubeWriter:
        """Writes."""
        return self.facts.services.kube

    @property
    def telemetry(self) -> Telemetry:
        """Metrics and events."""
        return self.facts.services.telemetry

    @property
    def labels(self) -> dict[str, str]:
        """Metric labels of the set."""
        return {"namespace": self.facts.owner.namespace, "name": self.facts.owner.name}

    def announce(self, reason: Reason, message: str, type_: Literal["Normal", "Warning"] = "Normal") -> None:
        """Say it as an event about the set."""
        self.telemetry.event(self.facts.body, reason, message, type_=type_)

    async def attempt(self, step: Awaitable[None]) -> None:
        """Carry out a step; what the other side refuses or cannot do now becomes a problem, and the pass goes on.

        Conflicts end the pass (gather again), and so does a lost lease. An API server that is busy is no news for the
        user: the step is simply taken again.
        """
        try:
            await step
        except NotLeading:
            raise
        except KubeUnavailable as error:
            logger.info("%s/%s: %s", self.facts.owner.namespace, self.facts.owner.name, error)
        except (Refused, Unavailable) as error:
            self.problems.append(Problem(error.reason, str(error)))


async def carry_out(steps: Sequence[Awaitable[None]]) -> None:
    """Carry out steps at once, each to its end even where another fails: none outlives the pass. Then say it."""
    results = await asyncio.gather(*steps, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in sorted(failures, key=lambda failure: isinstance(failure, Conflict)):
        raise failure
