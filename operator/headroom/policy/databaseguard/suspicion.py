"""Whether the servers became slow, or we did: most of several servers do not turn at the same moment by chance.

Then the state holds where it is, for a while: the cause is the operator's own node or network, or one that all servers
share, which will still be there afterwards.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from headroom.model.conditions import Finding
from headroom.reasons import Reason

TOGETHER_SECONDS = 20.0
"""Two samples, of which each may take an observation's deadline and a pause, turn within so long of each other."""
LEAST_OTHERS = 2
HOLD_SECONDS = 60.0
"""What holds for longer is believed: servers may share a disk, a node or a network."""


@dataclass(frozen=True, slots=True)
class Turn:
    """When a server's samples went above its state, and since when that is not believed, in monotonic seconds."""

    turned_at: float | None = None
    held_since: float | None = None

    def observe(self, now: float, *, is_above: bool) -> "Turn":
        """Take one sample into account."""
        if is_above:
            return self if self.turned_at is not None else replace(self, turned_at=now)
        is_over = self.turned_at is None or now - self.turned_at > TOGETHER_SECONDS
        return Turn() if is_over else replace(self, held_since=None)

    def suspect(self, others: Iterable[float | None], now: float) -> "Turn":
        """The state would rise: hold it if most of the others turned with this server; `others` is when each did.

        The server itself has no vote: that it turned is what is doubted.
        """
        found = list(others)
        turned = sum(at is not None and now - at <= TOGETHER_SECONDS for at in found)
        if self.held_since is not None or len(found) < LEAST_OTHERS or 2 * turned <= len(found):
            return self
        return replace(self, held_since=now)

    def is_holding(self, now: float) -> bool:
        """Whether a rise is not believed yet."""
        return self.held_since is not None and now - self.held_since < HOLD_SECONDS

    def describe(self, now: float) -> Finding | None:
        """What is reported while the state is held."""
        if not self.is_holding(now):
            return None
        # No numbers: some of the servers may be those of other namespaces.
        message = (
            "most servers of this operator became slow at the same moment, which points to its own node or network: "
            f"the state holds for {HOLD_SECONDS:.0f} s; look at the operator's pod and its node"
        )
        return Finding(Reason.SUSPECT_OPERATOR, message)
