"""Whose object is it: the check before an object is applied by force."""

from typing import Any

from headroom.errors import Refused
from headroom.ports.kube import Manifest, ObjectRef
from headroom.reasons import Reason


def find_controller(manifest: Manifest) -> dict[str, Any] | None:
    """The owner reference with `controller: true`, if there is one."""
    owners = manifest.get("metadata", {}).get("ownerReferences") or ()
    return next((dict(owner) for owner in owners if owner.get("controller")), None)


def refuse_foreign(ref: ObjectRef, live: Manifest, wanted: Manifest) -> None:
    """Raise Refused (NameConflict) unless both have the same controller, or neither has one."""
    mine, theirs = find_controller(wanted), find_controller(live)
    if (mine or {}).get("uid") == (theirs or {}).get("uid"):
        return
    holder = f"{theirs['kind']} {theirs['name']}" if theirs else "nobody"
    message = f"{ref} exists and is controlled by {holder}; it stays untouched: rename or delete it"
    raise Refused(message, reason=Reason.NAME_CONFLICT)
