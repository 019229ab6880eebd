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
LEAST_SERVERS = 3
HOLD_SECONDS = 60.0
"""What holds for longer is believed: servers may share a disk, a node or a network."""


@dataclass(frozen=True, slots=True)
class Turn:
    """When a server's samples went above its state, and since when that is not believed; times are monotonic seconds.

    `turned` of `servers` had turned together then.
    """

    turned_at: float | None = None
    held_since: float | None = None
    turned: int = 0
    servers: int = 0

    def observe(self, now: float, *, is_above: bool) -> "Turn":
        """Take one sample into account."""
        if is_above:
            return self if self.turned_at is not None else replace(self, turned_at=now)
        is_over = self.turned_at is None or now - self.turned_at > TOGETHER_SECONDS
        return Turn() if is_over else replace(self, held_since=None)

    def suspect(self, others: Iterable[float | None], now: float) -> "Turn":
        """The state would rise: hold it if most servers turned together; `others` is when each of the others did."""
        if self.held_since is not None:
            return self
        found = list(others)
        turned = 1 + sum(at is not None and now - at <= TOGETHER_SECONDS for at in found)
        servers = 1 + len(found)
        if servers < LEAST_SERVERS or 2 * turned <= servers:
            return self
        return replace(self, held_since=now, turned=turned, servers=servers)

    def is_holding(self, now: float) -> bool:
        """Whether a rise is not believed yet."""
        return self.held_since is not None and now - self.held_since < HOLD_SECONDS

    def describe(self, now: float) -> Finding | None:
        """What is reported while the state is held."""
        if not self.is_holding(now):
            return None
        message = (
            f"{self.turned} of {self.servers} servers became slow at the same moment, which points to the operator's "
            f"own node or network: the state holds for {HOLD_SECONDS:.0f} s; look at the operator's pod and its node"
        )
        return Finding(Reason.SUSPECT_OPERATOR, message)
