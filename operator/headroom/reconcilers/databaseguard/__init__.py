"""One pass of a DatabaseGuard.

`GuardReconciler(services)` is the entry. Beside the passes the guard that measures a server has one task of its own,
the canary, so that commits are timed whatever a pass waits for.
"""

from headroom.reconcilers.databaseguard.reconciler import GuardReconciler

__all__ = ["GuardReconciler"]
