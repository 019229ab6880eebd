"""Says as an event what a spec asks for and this version does not act on: once for each generation of an object."""

from dataclasses import dataclass, field

from headroom.api.base import SpecModel
from headroom.policy.not_yet import explain_not_yet, has_free_choice
from headroom.ports.kube import Manifest
from headroom.ports.telemetry import Telemetry
from headroom.reasons import Reason


@dataclass(slots=True)
class NotYetEvents:
    """Remembers which generation of which object was told; a new process tells again."""

    telemetry: Telemetry
    _told: dict[str, int] = field(default_factory=dict)

    def tell(self, body: Manifest, spec: SpecModel) -> None:
        """Send the event unless this generation has had it, or nothing was asked for that could be left out."""
        metadata = body["metadata"]
        if self._told.get(metadata["uid"]) == metadata["generation"]:
            return
        self._told[metadata["uid"]] = metadata["generation"]
        if has_free_choice(spec):
            self.telemetry.event(body, Reason.NOT_ACTED_ON, explain_not_yet(spec))

    def forget(self, uid: str) -> None:
        """Drop what is remembered about an object that is gone."""
        self._told.pop(uid, None)
