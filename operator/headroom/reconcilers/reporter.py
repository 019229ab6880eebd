"""The one writer of status: on change only, with the resourceVersion it was derived from."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headroom.api.base import SpecModel
from headroom.model.conditions import Condition, merge_conditions
from headroom.model.numbers import has_moved, round_tree
from headroom.policy.not_yet import explain_not_yet, has_free_choice
from headroom.ports.clock import Clock
from headroom.ports.kube import Kind, Manifest, ObjectRef, StatusWriter
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason

NUMBERS_AT_MOST_EVERY = timedelta(seconds=10)
NUMBERS_IN_A_CROWD_EVERY = timedelta(seconds=30)
CROWD = 300
"""With more objects than this of one kind, numbers are written less often: a write each would fill the bulkhead."""
EARLY = timedelta(seconds=1)
"""A pass that comes this little too early writes too: its next one may come many seconds later."""
NUMBER = re.compile(r"\d+(\.\d+)?")
_Shape = Mapping[str, Any]
"""Where a status has numbers: a nested shape for each group, None for a number; the entries of a list share one."""


@dataclass(frozen=True, slots=True)
class DesiredStatus:
    """What a pass wants to show: `facts` are written at once when they change, `numbers` and words of messages seldom.

    Both are trees keyed as in status and are laid over each other; entries of a list are matched by `name`. A number
    that is not known now is None, so that its going is a number's move and no change of a fact. The writer rounds.
    """

    conditions: tuple[Condition, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class StatusReporter:
    """Compares what is wanted with the stored status and writes only what is worth a write."""

    writer: StatusWriter
    clock: Clock
    kind: Kind
    _written: dict[str, float | None] = field(default_factory=dict)
    """When numbers of each object were last written by this process; monotonic seconds."""

    async def report(self, body: Manifest, desired: DesiredStatus) -> Manifest:
        """Write the status if it says something new; returns the object as it now is. Raises Conflict if it moved."""
        old = body.get("status") or {}
        metadata = body["metadata"]
        wanted = self._compose(old, desired, metadata["generation"])
        last = self._written.setdefault(metadata["uid"], None)
        if not self._is_worth_writing(last, old, wanted, _shape_of(desired.numbers)):
            return body
        ref = ObjectRef(self.kind, metadata["namespace"], metadata["name"])
        written = await self.writer.replace_status(ref, resource_version=metadata["resourceVersion"], status=wanted)
        self._written[metadata["uid"]] = self.clock.monotonic()
        return written

    def forget(self, uid: str) -> None:
        """Drop what is remembered about an object that is gone."""
        self._written.pop(uid, None)

    def _compose(self, old: Mapping[str, Any], desired: DesiredStatus, generation: int) -> dict[str, Any]:
        conditions = merge_conditions(
            old.get("conditions", []), desired.conditions, generation=generation, now=self.clock.now()
        )
        overlaid = _without_none(_overlay(desired.facts, round_tree(desired.numbers)))
        return {**overlaid, "observedGeneration": generation, "conditions": conditions}

    def _is_worth_writing(
        self, last: float | None, old: Mapping[str, Any], wanted: Mapping[str, Any], shape: "_Shape"
    ) -> bool:
        if _without_numbers(old, shape) != _without_numbers(wanted, shape):
            return True
        is_new = has_moved(_only_numbers(old, shape), _only_numbers(wanted, shape)) or _words(old) != _words(wanted)
        if not is_new:
            return False
        pause = NUMBERS_IN_A_CROWD_EVERY if len(self._written) > CROWD else NUMBERS_AT_MOST_EVERY
        return last is None or self.clock.monotonic() - last >= (pause - EARLY).total_seconds()


def _shape_of(numbers: Mapping[str, Any]) -> _Shape:
    shape: dict[str, Any] = {}
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            shape[key] = _shape_of(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            shape[key] = {name: part for entry in value for name, part in _shape_of(entry).items() if name != "name"}
        else:
            shape[key] = None
    return shape


def _overlay(facts: Any, numbers: Any) -> dict[str, Any]:
    """Facts with the numbers laid over them."""
    laid = dict(facts)
    for key, value in numbers.items():
        below = laid.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            laid[key] = _overlay(below, value)
        elif isinstance(below, list) and isinstance(value, list):
            by_name = {entry["name"]: entry for entry in value}
            laid[key] = [_overlay(entry, by_name.get(entry["name"], {})) for entry in below]
        else:
            laid[key] = value
    return laid


def _without_numbers(status: Mapping[str, Any], shape: _Shape) -> dict[str, Any]:
    """The facts of a status; the words of its conditions do not count as one."""
    kept: dict[str, Any] = {}
    for key, value in status.items():
        part = shape.get(key)
        if key == "conditions":
            kept[key] = [_verdict(condition) for condition in value]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            kept[key] = [_without_numbers(entry, part or {}) for entry in value]
        elif key not in shape:
            kept[key] = value
        elif isinstance(value, Mapping) and part:
            kept[key] = _without_numbers(value, part)
    return {key: value for key, value in kept.items() if value not in ({}, [])}


def _only_numbers(status: Mapping[str, Any], shape: _Shape) -> dict[str, Any]:
    picked: dict[str, Any] = {}
    for key, part in shape.items():
        value = status.get(key)
        if value is None:
            continue
        if isinstance(value, list) and part is not None:
            picked[key] = [_only_numbers(entry, part) for entry in value]
        elif isinstance(value, Mapping) and part is not None:
            picked[key] = _only_numbers(value, part)
        else:
            picked[key] = value
    return picked


def _without_none(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if value is not None}


def _words(status: Any) -> list[str]:
    """Every condition's message, members' too. One may carry a moving number: that alone is no reason for a write."""
    return [NUMBER.sub("#", message) for message in _messages(status)]


def _messages(status: Mapping[str, Any]) -> Iterator[str]:
    for key, value in status.items():
        if key == "conditions":
            yield from (condition.get("message", "") for condition in value)
        elif isinstance(value, list):
            for entry in value:
                if isinstance(entry, Mapping):
                    yield from _messages(entry)


def _verdict(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in condition.items() if key not in ("message", "observedGeneration")}


@dataclass(slots=True)
class NotYetEvents:
    """Remembers which generation of which object was told; a new process tells again."""

    telemetry: Telemetry
    _told: dict[str, int] = field(default_factory=dict)

    def tell(self, body: Manifest, spec: SpecModel) -> None:
        """Send the event unless this generation has had it, or nothing was asked for that could be left out."""
        metadata = body["metadata"]
        if self._told.get(metadata["uid"]) == metadata["generation"]:
            return
        self._told[metadata["uid"]] = metadata["generation"]
        if has_free_choice(spec):
            self.telemetry.event(body, Reason.NOT_ACTED_ON, explain_not_yet(spec))

    def forget(self, uid: str) -> None:
        """Drop what is remembered about an object that is gone."""
        self._told.pop(uid, None)
