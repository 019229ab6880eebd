"""The primary fails over in a world in memory: another server takes its name, on a new timeline."""

from collections.abc import Collection

from headroom.adapters.inmemory.postgres_server import MemoryServer
from headroom.ports.kube import POD
from tests.memory_world import MemoryWorld

LOST_BYTES = 5000
"""What the old primary wrote last, and the new one never received."""


def fail_over(world: MemoryWorld, past: Collection[str], *, torn_bytes: int = 0) -> MemoryServer:
    """A second server takes the place and the name of the primary; `past` received what it did not. Returns the old.

    The last `torn_bytes` of that are half a record, as a crash leaves it.
    """
    old = world.primary
    new = MemoryServer(old.host, upstream=old, roles=dict(old.roles), settings=dict(old.settings))
    new.replay()
    members = {name: world.replica(name) for name in world.names(POD) if name in world.members.ips}
    for name, server in members.items():
        server.replay()
        server.is_cut_off = name not in past
    old.write(LOST_BYTES)
    for name, server in members.items():
        server.torn_bytes = torn_bytes if name in past else 0
        server.replay()
        server.is_cut_off = False
    old.is_down = True
    new.promote()
    new.starts = old.starts + 1
    world.postgres.servers[new.address] = new
    world.primary = world.members.primary = new
    for server in members.values():
        server.upstream = new
    return old
