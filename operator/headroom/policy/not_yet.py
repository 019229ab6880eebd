"""Which fields of a spec this version accepts and does not act on yet: `Ready` lists them, and so does the reference.

One table for each kind. A field leaves it with the change that acts on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from headroom.api.base import SpecModel
from headroom.api.v1alpha1.autoscaling import Horizon
from headroom.api.v1alpha1.databaseguard import DatabaseGuardSpec
from headroom.api.v1alpha1.queue import Claims
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.api.v1alpha1.workerpool import WorkerPoolSpec

LABEL = "accepted, but not acted on yet"


@dataclass(frozen=True, slots=True)
class NotYet:
    """A field, by its path in the spec, and what holds instead.

    Any value asks for it, except its default and the values in `met`, which ask for what is done anyway. With
    `is_default_unmet` the default promises something too. Only the reference can say that: the API server fills
    defaults in, so an object does not show whether its user asked for them. The same holds for a field with
    `is_required`.
    """

    path: str
    instead: str
    met: tuple[object, ...] = ()
    is_default_unmet: bool = False
    is_required: bool = False


TABLES: Mapping[type[SpecModel], Sequence[NotYet]] = {
    DatabaseGuardSpec: (
        NotYet("mode", "`Enforce` measures and reports, as `Observe` does"),
        NotYet("thresholds.replayLag", "the lag of replicas does not move the guard's state", is_default_unmet=True),
        NotYet("signals", "the state follows the guard's own measurements alone"),
        NotYet(
            "locks",
            "the guard neither names nor ends blockers; pools name what holds up their workers or their queue",
            is_default_unmet=True,
        ),
        NotYet("notify", "only conditions, events and metrics report changes"),
    ),
    ReplicaSetSpec: (
        NotYet(
            "autoscaling.forecast.horizon",
            "what is measured now decides, as with `Off`",
            (Horizon.OFF,),
            is_default_unmet=True,
        ),
        NotYet("schedules", "`replicas`, `standbys` or the signals hold at all times"),
        NotYet("routing.rebalance.enabled", "clients find new replicas when they connect again"),
    ),
    WorkerPoolSpec: (
        NotYet("workers.suspendRef", "the CronJob is never suspended"),
        NotYet("queue.claims", "with `Unfenced` claims continue while commits are slow", (Claims.EXCLUSIVE,)),
        NotYet("queue.pollInterval", "claims continue while commits are slow"),
        NotYet(
            "priority", "it orders the connection budget; the guard's state holds and sheds no pool", is_required=True
        ),
        NotYet("shedding.pause", "nothing is shed", is_default_unmet=True),
        NotYet("shedding.maxDeferral", "nothing is shed"),
    ),
}


def find_not_yet(spec: SpecModel) -> tuple[str, ...]:
    """Paths of what the spec asks for and this version does not do yet; a field that all must set asks nothing."""
    return tuple(field.path for field in TABLES[type(spec)] if _is_asked(spec, field))


def describe_not_yet(spec: SpecModel) -> str:
    """The text for a condition's message; empty when this version acts on the whole spec."""
    paths = find_not_yet(spec)
    return f"{LABEL}: {', '.join(paths)}" if paths else ""


def find_field(model: type[BaseModel], alias: str) -> str:
    """Name of the attribute that a field of the YAML is read into; KeyError if there is none."""
    return {info.alias or name: name for name, info in model.model_fields.items()}[alias]


def _is_asked(spec: SpecModel, field: NotYet) -> bool:
    model: Any = spec
    *groups, leaf = field.path.split(".")
    for group in groups:
        model = getattr(model, find_field(type(model), group))
        if model is None:
            return False
    name = find_field(type(model), leaf)
    info, value = type(model).model_fields[name], getattr(model, name)
    if field.is_required or value in field.met:
        return False
    return bool(value != info.get_default(call_default_factory=True))
