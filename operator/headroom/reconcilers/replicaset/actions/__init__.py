"""What a pass writes: each function carries out the field of the plan whose name it bears.

The plan names the members. Before an action moves readers or destroys something, it checks that the object is still the
same: label patches test uid, resourceVersion and the old role, deletions read the object live.
"""

from headroom.reconcilers.replicaset.actions.accept import accept, pool
from headroom.reconcilers.replicaset.actions.activate import activate, confirm, put_back
from headroom.reconcilers.replicaset.actions.drain import drain, eject, end_sessions
from headroom.reconcilers.replicaset.actions.reserve import reserve, restore_slots
from headroom.reconcilers.replicaset.actions.retire import record_seeded, recreate, remove, retire, stop
from headroom.reconcilers.replicaset.actions.seed import seed
from headroom.reconcilers.replicaset.actions.snapshot import keep_anchors, snapshot

__all__ = [
    "accept",
    "activate",
    "confirm",
    "drain",
    "eject",
    "end_sessions",
    "keep_anchors",
    "pool",
    "put_back",
    "record_seeded",
    "recreate",
    "remove",
    "reserve",
    "restore_slots",
    "retire",
    "seed",
    "snapshot",
    "stop",
]
