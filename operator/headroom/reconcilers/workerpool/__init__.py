"""One pass of a WorkerPool: observe the queue and the target, decide, write `/scale`, report why."""

from headroom.reconcilers.workerpool.reconciler import WorkerPoolReconciler

__all__ = ["WorkerPoolReconciler"]
