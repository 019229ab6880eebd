"""What a pass may use (`Services`), and what it knows and does once it has decided (`ReconcileContext`)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar

from headroom.errors import Conflict, KubeUnavailable, NotLeading, Refused, Unavailable
from headroom.model.condition_types import ConditionType
from headroom.model.conditions import Finding
from headroom.model.moments import Moment
from headroom.policy.permitted import Permitted
from headroom.ports.clock import Clock
from headroom.ports.kube import Kind, Kube, KubeCache, Manifest
from headroom.ports.postgres import Postgres
from headroom.ports.signals import QueueProbes
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason
from headroom.reconcilers.reporter import StatusReporter
from headroom.reconcilers.servers import Servers

logger = logging.getLogger(__name__)

INVALID_PAUSE = timedelta(seconds=30)
"""Pause after a pass whose spec is invalid: only an edit corrects it, and an edit wakes the loop."""
SpecT = TypeVar("SpecT")
FactsT = TypeVar("FactsT")
DecisionT = TypeVar("DecisionT")
MemoryT = TypeVar("MemoryT")
HandlesT = TypeVar("HandlesT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The same for every kind, except `kube` and `reporter`, which use the kind's own bulkhead. `install_id` is this
    installation's part of slot names, `former_ids` are those of earlier versions of it, which other installations may
    have had too; an empty `watch_namespaces` means all.
    """

    kube: Kube
    cache: KubeCache
    postgres: Postgres
    probes: QueueProbes
    clock: Clock
    telemetry: Telemetry
    reporter: StatusReporter
    servers: Servers
    install_id: str
    former_ids: tuple[str, ...] = ()
    watch_namespaces: tuple[str, ...] = ()
    permitted: Permitted = field(default_factory=Permitted)
    """The images and Secrets that specs may name."""
    unserved: frozenset[Kind] = frozenset()
    """The optional kinds that the cluster does not have."""

    @property
    def swept_ids(self) -> tuple[str, ...]:
        """The ids whose orphaned slots are swept. Another release may have had the same former id: whether a set of its
        is gone only who sees all sets can tell.
        """
        return (self.install_id,) if self.watch_namespaces else (self.install_id, *self.former_ids)


@dataclass(slots=True, kw_only=True)
class ReconcileContext(Generic[SpecT, FactsT, DecisionT, MemoryT, HandlesT]):
    """`body` is the object as the pass began; `now` is the moment that was decided for.

    Actions append refusals to `findings`; `has_moved` asks for the next pass at once.
    """

    services: Services
    body: Manifest
    spec: SpecT
    facts: FactsT
    decision: DecisionT
    memory: MemoryT
    handles: HandlesT
    now: Moment
    findings: list[Finding] = field(default_factory=list)
    has_moved: bool = False

    @property
    def namespace(self) -> str:
        """Namespace of the object."""
        return str(self.body["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.body["metadata"]["name"])

    @property
    def uid(self) -> str:
        """Uid of the object."""
        return str(self.body["metadata"]["uid"])

    @property
    def labels(self) -> dict[str, str]:
        """Metric labels of the object."""
        return {"namespace": self.namespace, "name": self.name}

    @property
    def status(self) -> Mapping[str, Any]:
        """The status as the pass began; empty before the first."""
        return self.body.get("status") or {}

    def condition(self, kind: ConditionType) -> Mapping[str, Any]:
        """A condition as the pass began; empty when there is none."""
        return next((entry for entry in self.status.get("conditions") or () if entry["type"] == kind), {})

    def record(self, finding: Finding) -> None:
        """Keep a finding of an action, for the conditions."""
        self.findings.append(finding)

    def emit(self, reason: Reason, message: str, type_: Literal["Normal", "Warning"] = "Normal") -> None:
        """Send an event about the object."""
        self.services.telemetry.event(self.body, reason, message, type_=type_)

    async def attempt(self, action: Awaitable[None]) -> None:
        """Carry out an action; what the other side refuses or cannot do now becomes a finding, and the pass continues.

        Conflicts end the pass (gather again), and so does a lost lease. A busy API server is not
        reported: the next pass tries the action again.
        """
        try:
            await action
        except NotLeading:
            raise
        except KubeUnavailable as error:
            logger.info("%s/%s: %s", self.namespace, self.name, error)
        except (Refused, Unavailable) as error:
            self.record(Finding(error.reason, str(error)))


def restore_memory(
    restore: Callable[[Mapping[str, Any]], MemoryT], status: Mapping[str, Any], keep: Callable[[str], bool]
) -> MemoryT:
    """What an earlier process remembered, read from a status. One that no version of ours would write, as after an edit
    by hand, counts only as far as `keep` chooses its fields: it must not keep an object from its passes.
    """
    try:
        return restore(status)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        logger.warning("the status is not one that Headroom writes, so that most of it is passed over: %r", error)
        return restore({name: value for name, value in status.items() if keep(name)})


async def carry_out(actions: Sequence[Awaitable[None]]) -> None:
    """Carry out actions at the same time, each to its end even if another fails: none outlives the pass. Then raise."""
    results = await asyncio.gather(*actions, return_exceptions=True)
    failures = [result for result in results if isinstance(result, BaseException)]
    # Conflicts last: any other error says more about what is wrong.
    for failure in sorted(failures, key=lambda failure: isinstance(failure, Conflict)):
        raise failure
