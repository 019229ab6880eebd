"""What is known around a member, and what is concluded about it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from headroom.api.v1alpha1.serving import Readiness
from headroom.model.replica import MemberFacts, Stage
from headroom.reasons import Reason


@dataclass(frozen=True, slots=True)
class StageContext:
    """What the verdicts need besides the member; `has_primary` is false while the primary does not answer.

    `flush_lsn` is where the primary's WAL ends, `wal_cap` the bytes of it that a slot may keep; None: not known.
    `streaming` names the members whose streams stand.
    """

    now: datetime
    has_primary: bool
    readiness: Readiness
    stall_timeout: timedelta
    flush_lsn: int | None = None
    wal_cap: int | None = None
    streaming: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StageVerdict:
    """The stage a member is in and why it is not past it; `is_failed` gives the attempt up: it is made anew.

    `is_cut_off`: it will not come back, but may be of use until another is there; such members are replaced one by one.
    """

    stage: Stage
    reason: Reason
    message: str
    is_failed: bool = False
    progress_percent: int | None = None
    is_cut_off: bool = False


Check = Callable[[MemberFacts, StageContext], StageVerdict | None]
