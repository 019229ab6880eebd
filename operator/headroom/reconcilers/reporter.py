"""What a pass reports: the status, written on change only and with the resourceVersion it was derived from, and one
event about fields that this version does not act on.
"""

import re
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headroom.api.base import SpecModel
from headroom.model.conditions import Condition, merge_conditions
from headroom.model.numbers import has_moved, round_tree
from headroom.model.text import clean_tree
from headroom.policy.not_yet import describe_not_yet
from headroom.ports.clock import Clock
from headroom.ports.kube import Kind, Manifest, ObjectRef, StatusWriter
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason

NUMBERS_AT_MOST_EVERY = timedelta(seconds=10)
NUMBERS_IN_A_CROWD_EVERY = timedelta(seconds=30)
CROWD = 300
"""With more objects of one kind than this, numbers are written less often: one write each would fill the bulkhead.
Namespaces that have no more than an equal share of so many are not slowed down by those that have."""
EARLY = timedelta(seconds=1)
"""A pass that is early by no more than this writes too: the next one may come many seconds later."""
RETURNS_WITHIN = timedelta(seconds=60)
RETURNS_AT_ONCE = 2
RETURNS_EVERY = timedelta(seconds=15)
"""A verdict may flap, as with a pod whose probe fails now and then: facts that were shown in the last minute come back
twice at once, and from then on this often."""
NUMBER = re.compile(r"\d+(\.\d+)?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT")
_Shape = Mapping[str, Any]
"""Where a status has numbers: a nested shape for each group, None for a number; the entries of a list share one."""


@dataclass(frozen=True, slots=True)
class DesiredStatus:
    """What a pass wants to show: `facts` are written at once when they change, all else seldom: `numbers`, the text of
    messages, and `counts`, which differ from numbers in that no change of them is too small.

    Facts and numbers are trees keyed as in status and are laid over each other; entries of a list are matched by
    `name`. A number that is not known now is None: then its disappearance counts as a change of a number, not of a
    fact. The reporter rounds.
    """

    conditions: tuple[Condition, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(slots=True)
class _History:
    """What this process wrote of one object's status, in monotonic seconds.

    `shown` is until when facts were shown in the last minute, by their hash; `returned_at` is when some came back.
    """

    namespace: str
    written_at: float | None = None
    shown: dict[int, float] = field(default_factory=dict)
    returned_at: list[float] = field(default_factory=list)

    def record(self, now: float, old: int, new: int) -> None:
        """Keep a write of new facts in place of the old ones."""
        since = now - RETURNS_WITHIN.total_seconds()
        due = now if self.written_at is None else self.written_at + NUMBERS_AT_MOST_EVERY.total_seconds()
        # An early write counts from when it was due, or there would be seven a minute.
        self.written_at = due if now < due <= now + EARLY.total_seconds() else now
        self.returned_at = [at for at in self.returned_at if at > since]
        self.shown = {facts: at for facts, at in self.shown.items() if at > since}
        if old != new and new in self.shown:
            self.returned_at.append(now)
        self.shown |= {old: now, new: now}

    def is_flapping(self, now: float, facts: int) -> bool:
        """Whether these facts would come back once too often within a minute."""
        since = now - RETURNS_WITHIN.total_seconds()
        returns = sum(at > since for at in self.returned_at)
        return self.shown.get(facts, since) > since and returns >= RETURNS_AT_ONCE


@dataclass(slots=True)
class StatusReporter:
    """Compares what is wanted with the stored status and writes only what is worth a write."""

    writer: StatusWriter
    clock: Clock
    kind: Kind
    _histories: dict[str, _History] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)

    async def report(self, body: Manifest, desired: DesiredStatus) -> Manifest:
        """Write the status if it says something new; returns the object as it now is. Raises Conflict if it moved."""
        old = body.get("status") or {}
        metadata = body["metadata"]
        wanted = self._compose(old, desired, metadata["generation"])
        history = self._history_of(metadata["uid"], metadata["namespace"])
        if not self._is_worth_writing(history, old, wanted, desired):
            return body
        ref = ObjectRef(self.kind, metadata["namespace"], metadata["name"])
        written = await self.writer.replace_status(ref, resource_version=metadata["resourceVersion"], status=wanted)
        # After the write: one that failed must not postpone the next.
        facts = (_hash_facts(_without_numbers(status, _shape_of(desired))) for status in (old, wanted))
        history.record(self.clock.monotonic(), *facts)
        return written

    def forget(self, uid: str) -> None:
        """Drop what is remembered about an object that is gone."""
        history = self._histories.pop(uid, None)
        if history is not None:
            self._counts -= Counter((history.namespace,))

    def _history_of(self, uid: str, namespace: str) -> _History:
        if uid not in self._histories:
            self._histories[uid] = _History(namespace)
            self._counts[namespace] += 1
        return self._histories[uid]

    def _is_crowded(self, namespace: str) -> bool:
        return len(self._histories) > CROWD and self._counts[namespace] * len(self._counts) > CROWD

    def _compose(self, old: Mapping[str, Any], desired: DesiredStatus, generation: int) -> dict[str, Any]:
        conditions = merge_conditions(
            old.get("conditions", []), desired.conditions, generation=generation, now=self.clock.now()
        )
        overlaid = _without_none({**_overlay(desired.facts, round_tree(desired.numbers)), **desired.counts})
        # Whatever comes from outside passes here: names, messages of servers, terminations of containers.
        return {**clean_tree(overlaid), "observedGeneration": generation, "conditions": clean_tree(conditions)}

    def _is_worth_writing(
        self, history: _History, old: Mapping[str, Any], wanted: Mapping[str, Any], desired: DesiredStatus
    ) -> bool:
        now, shape = self.clock.monotonic(), _shape_of(desired)
        facts = _without_numbers(wanted, shape)
        if _without_numbers(old, shape) != facts:
            return not history.is_flapping(now, _hash_facts(facts)) or _is_after(RETURNS_EVERY, history, now)
        has_new_number = has_moved(_only_numbers(old, shape), _only_numbers(wanted, shape))
        has_new_count = any(old.get(name) != wanted.get(name) for name in desired.counts)
        if not (has_new_number or has_new_count or _texts(old) != _texts(wanted)):
            return False
        pause = NUMBERS_IN_A_CROWD_EVERY if self._is_crowded(history.namespace) else NUMBERS_AT_MOST_EVERY
        return _is_after(pause - EARLY, history, now)


def _is_after(pause: timedelta, history: _History, now: float) -> bool:
    # A new process writes at once: what it finds may be out of date.
    return history.written_at is None or now - history.written_at >= pause.total_seconds()


def _shape_of(desired: DesiredStatus) -> _Shape:
    return {**_shape_of_numbers(desired.numbers), **dict.fromkeys(desired.counts)}


def _shape_of_numbers(numbers: Mapping[str, Any]) -> _Shape:
    shape: dict[str, Any] = {}
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            shape[key] = _shape_of_numbers(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            parts = (part for entry in value for part in _shape_of_numbers(entry).items())
            shape[key] = {name: part for name, part in parts if name != "name"}
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
    """The facts of a status; the messages of its conditions do not count as facts."""
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


def _hash_facts(facts: Mapping[str, Any]) -> int:
    return hash(_freeze(facts))


def _freeze(facts: Any) -> Hashable:
    """Facts without moments, which differ each time the same facts come back."""
    if isinstance(facts, Mapping):
        return frozenset((key, _freeze(value)) for key, value in facts.items())
    if isinstance(facts, list | tuple):
        return tuple(map(_freeze, facts))
    return None if isinstance(facts, str) and TIME.match(facts) else facts


def _texts(status: Any) -> list[str]:
    """Every condition's message, members' too, without its numbers: a number that moves does not justify a write."""
    return [NUMBER.sub("#", message) for message in _messages(status)]


def _messages(status: Mapping[str, Any]) -> Iterator[str]:
    # The API server sorts the keys of a status, and we do not.
    for key, value in sorted(status.items()):
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
    """Emits one event for each generation of an object about what this version does not act on yet.

    A new process emits it again.
    """

    telemetry: Telemetry
    _emitted: dict[str, int] = field(default_factory=dict)

    def emit(self, body: Manifest, spec: SpecModel) -> None:
        """Send the event, unless this generation has had it or asks for no field of that kind."""
        metadata = body["metadata"]
        if self._emitted.get(metadata["uid"]) == metadata["generation"]:
            return
        self._emitted[metadata["uid"]] = metadata["generation"]
        text = describe_not_yet(spec)
        if text:
            self.telemetry.event(body, Reason.NOT_ACTED_ON, text)

    def forget(self, uid: str) -> None:
        """Drop what is remembered about an object that is gone."""
        self._emitted.pop(uid, None)
