"""The life of a set of read replicas: one reconciler, and one action for each field of the plan.

    Admitted -> SlotReserved -> Seeded -> Streaming -> CaughtUp -> Standby <-> Serving -> Draining -> Retired

`ReplicaSetReconciler(Services(...))` is the entry. No decision relies for its safety on memory alone: the state of
a member is in its pod's labels, its claim's annotations, and the names of both and of its slot.
"""

from headroom.reconcilers.replicaset.reconciler import ReplicaSetReconciler

__all__ = ["ReplicaSetReconciler"]
