"""One pass of a DatabaseGuard.

`GuardReconciler(kube, reporter, postgres, clock, telemetry, board, sweeper)` is the entry. Beside the passes each guard
has one task of its own, the canary, so that commits are timed whatever a pass waits for.
"""

from headroom.reconcilers.databaseguard.reconciler import GuardReconciler
from headroom.reconcilers.databaseguard.sweep import Sweeper

__all__ = ["GuardReconciler", "Sweeper"]
