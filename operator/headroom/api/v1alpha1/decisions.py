"""The last decision of a scaler, as status keeps it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from headroom.api.base import StatusModel

Count = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(ge=0)]
Word = Annotated[str, Field(max_length=128)]
Text = Annotated[str, Field(max_length=1024)]
Name = Annotated[str, Field(max_length=253)]


class ReplicaDecision(StatusModel):
    """How many replicas are wanted, and why."""

    at: datetime
    """When it was decided."""
    from_: Count
    """Serving replicas before."""
    to: Count
    """Serving replicas wanted."""
    rule: Word
    """The signal or rule that asked for it."""
    reason: Word
    """Why, as one CamelCase word."""
    message: Text = ""
    """Details."""


class WorkerDecision(StatusModel):
    """How many workers are wanted, and why."""

    at: datetime
    """When it was decided."""
    wanted: Count
    """Workers that the load needs."""
    allowed: Count
    """Workers that limits and the database allow: what was written to the target."""
    rule: Word
    """The rule that asked for the wanted count."""
    limit: Word | None = None
    """Why fewer are allowed than wanted, as ScalingLimited has it. Absent: no limit keeps workers back."""
    reason: Word
    """Why, as one CamelCase word."""
    message: Text = ""
    """Details."""
