"""Decisions: pure functions of spec, facts, memory and the present moment. Each returns an `Outcome`."""

from dataclasses import dataclass
from typing import Generic, TypeVar

DecisionT = TypeVar("DecisionT")
MemoryT = TypeVar("MemoryT")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[DecisionT, MemoryT]):
    """A decision, and the memory that the next pass starts from; both are frozen values without handles."""

    decision: DecisionT
    memory: MemoryT
