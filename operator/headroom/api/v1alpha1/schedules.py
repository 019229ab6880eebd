"""Times of known load: a larger minimum applies from each tick of a cron expression, for a duration."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from headroom.api.base import RULE_FAILED, CelRule, SpecModel, cel_text
from headroom.api.v1alpha1.common import EntryName
from headroom.api.values import DurationRange, Pattern

CRON_REMEDY = 'write five cron fields, such as "0 16 * * FRI": minute, hour, day of month, month, day of week'
ZONE_REMEDY = "write an IANA time zone, such as Europe/London or Etc/UTC"


def _field(value: str) -> str:
    """A cron field: a list of values, ranges and steps."""
    item = rf"([*]|{value}(-{value})?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


_FIELDS = {
    "minute": (_field("[0-5]?[0-9]"), "write a minute from 0 to 59 (the first field)"),
    "hour": (_field("([01]?[0-9]|2[0-3])"), "write an hour from 0 to 23 (the second field)"),
    "day-of-month": (
        _field("(0?[1-9]|[12][0-9]|3[01]|L)"),
        "write a day from 1 to 31, or L for the last of the month (the third field)",
    ),
    "month": (
        _field("(0?[1-9]|1[0-2]|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC)"),
        "write a month from 1 to 12, or JAN to DEC (the fourth field)",
    ),
    "day-of-week": (
        _field("([0-7]|SUN|MON|TUE|WED|THU|FRI|SAT)(#[1-5]|L)?"),
        "write a day of the week from 0 to 7, or SUN to SAT (the fifth field)",
    ),
}
"""What a field may hold, and what to write instead, by the words that the reader of cron expressions has for it."""
_FIVE = "^[^ ]+( [^ ]+){4}$"
_FEBRUARY = "(0?2|FEB)"
_SHORT_MONTH = "(0?[2469]|11|FEB|APR|JUN|SEP|NOV)"
_NEVER = (
    rf"^[^ ]+ [^ ]+ ((30|31)([-,](30|31))* {_FEBRUARY}([-,]{_FEBRUARY})*|31([-,]31)* {_SHORT_MONTH}(,{_SHORT_MONTH})*)"
    " [*]"
)
"""Days that none of the months has; a day of the week beside them would tick too."""
NEVER_REMEDY = "write a day that the month has: no such time ever comes, as 31 February does not"


def _field_rules() -> tuple[CelRule, ...]:
    """One rule for each field, silent while there are not five; and one for a date that never comes."""
    before, rules = "^", []
    for position, (values, remedy) in enumerate(_FIELDS.values()):
        end = " " if position < len(_FIELDS) - 1 else "$"
        regex = f"{before}{values}{end}"
        rules.append(CelRule(f"!self.matches({cel_text(_FIVE)}) || self.matches({cel_text(regex)})", remedy))
        before += "[^ ]+ "
    return (*rules, CelRule(f"!self.matches({cel_text(_NEVER)})", NEVER_REMEDY))


def _has_ticks(cron: str) -> str:
    """Refuse a field out of its range, and an expression that never matches, such as 30 February."""
    for text, (values, remedy) in zip(cron.split(" "), _FIELDS.values(), strict=True):
        if not re.fullmatch(values, text):
            raise _refusal(remedy)
    try:
        next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)))
    except StopIteration as error:
        raise _refusal(NEVER_REMEDY) from error
    except CronSimError as error:
        raise _refusal(_describe_bad_field(cron, str(error))) from error
    return cron


def _describe_bad_field(cron: str, error: str) -> str:
    """What to write for a field whose parts are each within the range."""
    name = error.removeprefix("Bad ")
    if name not in _FIELDS:
        return CRON_REMEDY
    text = cron.split(" ")[list(_FIELDS).index(name)]
    try:
        CronSim(" ".join(text if one == name else "*" for one in _FIELDS), datetime(2024, 1, 1, tzinfo=UTC))
    except CronSimError:
        return f"{_FIELDS[name][1]}; a range goes from the lower value to the higher one"
    # The field is right alone: it is the months that lack the day.
    return NEVER_REMEDY


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
    Pattern(_FIVE, CRON_REMEDY, 100),
    *_field_rules(),
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
