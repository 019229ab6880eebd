"""Times of known load: a larger minimum applies from each tick of a cron expression, for a duration."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from headroom.api.base import RULE_FAILED, CelRule, SpecModel
from headroom.api.v1alpha1.common import EntryName
from headroom.api.values import DurationRange, Pattern

CRON_REMEDY = 'write five cron fields, such as "0 16 * * FRI": minute, hour, day of month, month, day of week'
ZONE_REMEDY = "write an IANA time zone, such as Europe/London or Etc/UTC"


def _field(value: str) -> str:
    """A cron field: a list of values, ranges and steps."""
    item = rf"([*]|{value}(-{value})?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


_MINUTE = _field("[0-5]?[0-9]")
_HOUR = _field("([01]?[0-9]|2[0-3])")
_DAY = _field("(0?[1-9]|[12][0-9]|3[01]|L)")
_MONTH = _field("(0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)")
_WEEKDAY = _field("([0-7]|SUN|MON|TUE|WED|THU|FRI|SAT)(#[1-5]|L)?")


def _has_ticks(cron: str) -> str:
    """Refuse a cron expression that never matches, such as 30 February."""
    try:
        next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise _refusal(CRON_REMEDY) from error
    return cron


def _is_known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise _refusal(ZONE_REMEDY) from error
    return name


def _refusal(remedy: str) -> PydanticCustomError:
    return PydanticCustomError(RULE_FAILED, "{message}", {"message": remedy, "field": ""})


CronText = Annotated[
    str,
    Pattern(f"^{_MINUTE} {_HOUR} {_DAY} {_MONTH} {_WEEKDAY}$", CRON_REMEDY, 100),
    AfterValidator(_has_ticks),
]
TimeZoneName = Annotated[
    str,
    Pattern("^[A-Za-z][A-Za-z0-9_+/-]*$", ZONE_REMEDY, 64),
    # CEL fails to read the hour in a zone that does not exist.
    CelRule("timestamp('2024-01-01T00:00:00Z').getHours(self) >= 0", ZONE_REMEDY),
    AfterValidator(_is_known_zone),
]


class Schedule(SpecModel):
    """A recurring span of time."""

    name: EntryName
    """Name of the entry, shown in status and events."""
    cron: CronText
    """When the span begins: minute, hour, day of month, month, day of week, such as "0 16 * * FRI"."""
    time_zone: TimeZoneName = "Etc/UTC"
    """IANA time zone the cron expression is read in, such as Europe/London."""
    duration: Annotated[timedelta, DurationRange("1m", "744h")]
    """How long the span lasts from each tick."""
