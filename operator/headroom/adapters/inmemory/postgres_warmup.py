"""The cache of a server in memory, and the link that fills it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from headroom.errors import PrimaryUnavailable, Refused
from headroom.model.warmup import RANGE_BLOCKS, BlockRange
from headroom.reasons import Reason

if TYPE_CHECKING:
    from headroom.adapters.inmemory.postgres_server import MemoryServer
    from headroom.adapters.inmemory.postgres_session import MemoryLinkSession

BUFFERS = 2048
WARMUP_EXTENSIONS = ("pg_buffercache", "pg_prewarm")
HOT_USAGE = 2
READS_ALL = "pg_read_all_data"


@dataclass(slots=True)
class MemoryCache:
    """Blocks in a cache, as (relation, block), with how often each was used. `sizes` are blocks of the relations by
    (oid, file); what is `locked` is refused. A restart empties it.
    """

    buffers: int = BUFFERS
    extensions: set[str] = field(default_factory=lambda: set(WARMUP_EXTENSIONS))
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    locked: set[int] = field(default_factory=set)
    usage: dict[tuple[int, int], int] = field(default_factory=dict)

    def read(self, relation: int, first: int, last: int) -> int:
        """Use blocks once, as far as there are so many; how many that were."""
        size = next((size for (oid, _), size in self.sizes.items() if oid == relation), 0)
        blocks = range(first, min(last + 1, size))
        for block in blocks:
            self.usage[relation, block] = min(self.usage.get((relation, block), 0) + 1, 5)
        return len(blocks)

    def find_hot(self, most_blocks: int) -> tuple[BlockRange, ...]:
        """Neighbours with the same use make a range, as far as one may go; the most used come first."""
        files = dict(self.sizes.keys())
        used = sorted((oid, block // RANGE_BLOCKS, usage, block) for (oid, block), usage in self.usage.items())
        found = []
        for (oid, _, usage), group in groupby((entry for entry in used if entry[2] >= HOT_USAGE), lambda e: e[:3]):
            runs = _split([entry[3] for entry in group])
            found += [(-usage, BlockRange(oid, files[oid], run[0], run[-1])) for run in runs]
        kept: list[BlockRange] = []
        for _, each in sorted(found):
            if sum(one.blocks for one in kept) + each.blocks > most_blocks:
                break
            kept.append(each)
        return tuple(kept)


def _split(blocks: Sequence[int]) -> list[list[int]]:
    """Runs of neighbours."""
    runs: list[list[int]] = []
    for block in blocks:
        if runs and runs[-1][-1] == block - 1:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


@dataclass(slots=True)
class MemoryWarmup:
    """Implements `WarmupLink`."""

    session: "MemoryLinkSession"

    async def describe(self) -> tuple[str, int]:
        """See `WarmupLink.describe`."""
        server = self._use()
        return server.settings["cluster_name"], server.cache.buffers

    async def read_hot(self, most_blocks: int) -> tuple[BlockRange, ...]:
        """See `WarmupLink.read_hot`."""
        server = self._use()
        server.questions["hot"] += 1
        return server.cache.find_hot(most_blocks)

    async def warm(self, ranges: Sequence[BlockRange]) -> int | None:
        """See `WarmupLink.warm`."""
        server = self._use()
        [(relation, file)] = {(each.relation, each.file) for each in ranges}
        if relation in server.cache.locked or (relation, file) not in server.cache.sizes:
            return None
        return sum(server.cache.read(relation, each.first, each.last) for each in ranges)

    def _use(self) -> "MemoryServer":
        server, login = self.session.use(), self.session.login()
        if not server.is_in_recovery:
            raise PrimaryUnavailable("it is not in recovery", reason=Reason.MEMBER_PROMOTED)
        if READS_ALL not in login.rights:
            raise Refused(f"the login is not a member of {READS_ALL}", reason=Reason.MISSING_RIGHT)
        for extension in WARMUP_EXTENSIONS:
            if extension not in server.cache.extensions:
                raise Refused(f"the database has no extension {extension}", reason=Reason.EXTENSION_MISSING)
        return server

    async def close(self) -> None:
        """See `WarmupLink.close`."""
        self.session.close()
