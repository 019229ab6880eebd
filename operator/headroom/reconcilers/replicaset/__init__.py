"""The life of a set of read replicas: a sequencer and one file a stage.

    Admitted -> SlotReserved -> Seeded -> Streaming -> CaughtUp -> Standby <-> Serving -> Draining -> Retired

`ReplicaSetReconciler(Services(...))` is the entry. Nothing a decision's safety rests on lives in memory only: what a
member is stands in its pod's labels, its claim's annotations and the names of both and of its slot.
"""

from headroom.reconcilers.replicaset.sequencer import ReplicaSetReconciler
from headroom.reconcilers.replicaset.services import Services

__all__ = ["ReplicaSetReconciler", "Services"]
