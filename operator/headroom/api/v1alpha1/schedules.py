"""Times of known load: from each tick of a cron expression, for a duration, a larger minimum holds."""

from datetime import timedelta
from typing import Annotated

from headroom.api.base import SpecModel
from headroom.api.v1alpha1.common import EntryName
from headroom.api.values import DurationRange, Pattern

CRON_FIELD = "[0-9A-Za-z*/,#-]+"
CronText = Annotated[
    str,
    Pattern(
        f"^{CRON_FIELD}( {CRON_FIELD}){{4}}$",
        'write five cron fields, such as "0 16 * * FRI": minute, hour, day of month, month, day of week',
        100,
    ),
]
TimeZoneName = Annotated[
    str, Pattern("^[A-Za-z][A-Za-z0-9_+/-]*$", "write an IANA time zone, such as Europe/London or Etc/UTC", 64)
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
