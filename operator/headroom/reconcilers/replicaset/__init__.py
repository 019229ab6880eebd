"""The life of a set of read replicas: one reconciler, and one action for each field of the plan.

    Admitted -> SlotReserved -> Seeded -> Streaming -> CaughtUp -> Standby <-> Serving -> Draining -> Retired

`ReplicaSetReconciler(Services(...))` is the entry. Nothing a decision's safety rests on lives in memory only: what a
member is stands in its pod's labels, its claim's annotations and the names of both and of its slot.
"""

from headroom.reconcilers.replicaset.reconciler import ReplicaSetReconciler

__all__ = ["ReplicaSetReconciler"]
