"""The one writer of status: on change only, with the resourceVersion it was derived from."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from headroom.model.conditions import Condition, merge_conditions
from headroom.ports.clock import Clock
from headroom.ports.kube import Kind, Manifest, ObjectRef, StatusWriter

NUMBERS_AT_MOST_EVERY = timedelta(seconds=10)
EARLY = timedelta(seconds=1)
"""A pass that comes this little too early writes too: its next one may come many seconds later."""
SMALLEST_MOVE = 0.10
SIGNIFICANT_DIGITS = 2
NUMBER = re.compile(r"\d+(\.\d+)?")


def round_number(value: float) -> float:
    """Two significant digits: what a person reads, and what keeps a status from moving all the time."""
    if value == 0 or not math.isfinite(value):
        return 0.0
    digits = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value)))
    return round(value, digits)


def has_moved(old: Any, new: Any) -> bool:
    """True when two status numbers, or trees of them, differ by more than a tenth anywhere."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() != new.keys() or any(has_moved(old[key], new[key]) for key in new)
    if isinstance(old, int | float) and isinstance(new, int | float):
        return abs(new - old) > SMALLEST_MOVE * max(abs(old), abs(new))
    return bool(old != new)


@dataclass(frozen=True, slots=True)
class StatusDraft:
    """What a pass wants to say: `facts` are written at once when they change, `numbers` and words of messages seldom.

    `numbers` is a tree of measured values keyed as in status; the writer rounds them.
    """

    conditions: tuple[Condition, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class StatusReporter:
    """Compares a draft with the stored status and writes only what is worth a write."""

    writer: StatusWriter
    clock: Clock
    kind: Kind
    _written: dict[str, float] = field(default_factory=dict)

    async def report(self, body: Manifest, draft: StatusDraft) -> Manifest:
        """Write the draft if it says something new; returns the object as it now is. Raises Conflict if it moved."""
        old = body.get("status") or {}
        metadata = body["metadata"]
        wanted = self._compose(old, draft, metadata["generation"])
        if not self._is_worth_writing(metadata["uid"], old, wanted, draft):
            return body
        ref = ObjectRef(self.kind, metadata["namespace"], metadata["name"])
        written = await self.writer.replace_status(ref, resource_version=metadata["resourceVersion"], status=wanted)
        self._written[metadata["uid"]] = self.clock.monotonic()
        return written

    def forget(self, uid: str) -> None:
        """Drop what is remembered about an object that is gone."""
        self._written.pop(uid, None)

    def _compose(self, old: Mapping[str, Any], draft: StatusDraft, generation: int) -> dict[str, Any]:
        conditions = merge_conditions(
            old.get("conditions", []), draft.conditions, generation=generation, now=self.clock.now()
        )
        return {
            **_without_none({**draft.facts, **_round_tree(draft.numbers)}),
            "observedGeneration": generation,
            "conditions": conditions,
        }

    def _is_worth_writing(
        self, uid: str, old: Mapping[str, Any], wanted: Mapping[str, Any], draft: StatusDraft
    ) -> bool:
        numbers = draft.numbers.keys()
        if _without(old, numbers) != _without(wanted, numbers):
            return True
        is_new = any(has_moved(old.get(key), wanted.get(key)) for key in numbers) or _words(old) != _words(wanted)
        if not is_new:
            return False
        last = self._written.get(uid)
        pause = NUMBERS_AT_MOST_EVERY - EARLY
        return last is None or self.clock.monotonic() - last >= pause.total_seconds()


def _round_tree(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _without_none({key: _round_tree(inner) for key, inner in value.items()})
    return round_number(value) if isinstance(value, float) else value


def _without_none(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if value is not None}


def _without(status: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    dropped = set(keys)
    kept = {key: value for key, value in status.items() if key not in dropped and key != "conditions"}
    kept["conditions"] = [_verdict(condition) for condition in status.get("conditions", [])]
    return kept


def _words(status: Mapping[str, Any]) -> list[str]:
    # A message may carry a moving number: alone it is no reason for a write.
    return [NUMBER.sub("#", condition.get("message", "")) for condition in status.get("conditions", [])]


def _verdict(condition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in condition.items() if key != "message"}
