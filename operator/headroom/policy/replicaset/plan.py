"""What is wanted of a set of members, and the steps of one pass towards it."""

from dataclasses import dataclass

from headroom.api.v1alpha1.serving import Readiness
from headroom.policy.replicaset.drain import DrainLimits
from headroom.policy.replicaset.ejection import Ejection
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class Targets:
    """What is wanted, and what may be done towards it.

    `is_acting` is false in DryRun and Paused; `may_provision` says that the primary admits one more member and that no
    failed attempt is still to be waited out, `may_replace` that it would once a member is given up; `template` is the
    hash a pod made now would have, None while not known.
    """

    desired: int
    standbys: int
    max_concurrent: int
    bounds: Readiness
    drain: DrainLimits
    why: Reason
    is_acting: bool = True
    may_provision: bool = True
    may_replace: bool = True
    has_primary: bool = True
    template: str | None = None


@dataclass(frozen=True, slots=True)
class Retirement:
    """A member that goes for good; `is_failure` counts against the attempts to make one."""

    name: str
    reason: Reason
    message: str
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of this pass; within each tuple the order is the order of preference.

    `activate` lists all who could serve, best first; the first `needed` that pass a fresh look are taken.
    """

    needed: int = 0
    activate: tuple[str, ...] = ()
    eject: tuple[Ejection, ...] = ()
    drain: tuple[Ejection, ...] = ()
    accept: tuple[str, ...] = ()
    to_pool: tuple[str, ...] = ()
    retire: tuple[Retirement, ...] = ()
    remake: tuple[str, ...] = ()
    provision: int = 0
    panic: str = ""
    good: int = 0

    @property
    def is_empty(self) -> bool:
        """Nothing is to be done."""
        return not (
            (self.needed and self.activate)
            or self.eject
            or self.drain
            or self.accept
            or self.to_pool
            or self.retire
            or self.remake
            or self.provision
        )
