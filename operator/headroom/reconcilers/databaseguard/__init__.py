"""One pass of a DatabaseGuard.

`GuardReconciler(kube, reporter, postgres, clock, telemetry, board)` is the entry. Beside the passes each guard has one
task of its own, the canary, so that commits are timed whatever a pass waits for.
"""

from headroom.reconcilers.databaseguard.reconciler import GuardReconciler

__all__ = ["GuardReconciler"]
