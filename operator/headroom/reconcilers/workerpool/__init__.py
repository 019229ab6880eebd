"""One pass of a WorkerPool: sample the queue and look at the target at once, decide, write `/scale`, say why."""

from headroom.reconcilers.workerpool.reconciler import WorkerPoolReconciler

__all__ = ["WorkerPoolReconciler"]
