"""Wall-clock moments as Kubernetes spells them: RFC 3339 in UTC; every moment here must be aware."""

from datetime import datetime


def format_time(moment: datetime) -> str:
    """Whole seconds, as in conditions and in an object's own metadata."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_moment(moment: datetime) -> str:
    """Microseconds, as in Leases and Events, and for what is measured against."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
