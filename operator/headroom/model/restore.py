"""What a claim says of the snapshot that its volume comes from: its stamps, since the snapshot may be gone by then.

They have names of their own: a member that was restored may be the source of another snapshot later.
"""

from collections.abc import Mapping

from headroom.model.snapshot import STAMP_ANNOTATIONS, STAMP_PREFIX, Stamps

METHOD_NOTE = "headroom.dev/method"
"""For a person who looks at the claim; its data source is what a pass reads."""
WHY_NOTE = "headroom.dev/method-why"
"""Why that method, and from a snapshot why that one; status repeats it."""
RESTORED_PREFIX = "headroom.dev/restored-"
_NAMES = {name: name.replace(STAMP_PREFIX, RESTORED_PREFIX) for name in STAMP_ANNOTATIONS}
RESTORED_ANNOTATIONS = tuple(_NAMES.values())


def format_restored(stamps: Stamps) -> dict[str, str]:
    """The annotations of a claim whose volume is created from a snapshot with these stamps."""
    return {_NAMES[name]: text for name, text in stamps.format().items()}


def parse_restored(annotations: Mapping[str, str]) -> Stamps | None:
    """Read them back; None if one is missing or was edited into something that cannot be right."""
    return Stamps.parse({name: annotations[ours] for name, ours in _NAMES.items() if ours in annotations})
