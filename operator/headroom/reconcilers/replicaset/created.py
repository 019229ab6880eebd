"""Creates what a member is made of; a name that something else holds is said, since no retry would free it."""

from headroom.errors import Conflict, Refused
from headroom.model.replica import SET_LABEL
from headroom.ports.kube import Kind, Manifest, ObjectRef
from headroom.reasons import Reason
from headroom.reconcilers.replicaset.children import is_owned
from headroom.reconcilers.replicaset.run import Run


async def create_child(run: Run, kind: Kind, manifest: Manifest) -> None:
    """POST it; raises Refused (NameConflict) for a name that is taken, Conflict where a new look will see ours."""
    try:
        await run.writer.create(manifest)
    except Conflict:
        metadata = manifest["metadata"]
        live = await run.reader.get(ObjectRef(kind, metadata["namespace"], metadata["name"]))
        if live is not None:
            _refuse_unseen(run, kind, live)
        raise


def _refuse_unseen(run: Run, kind: Kind, live: Manifest) -> None:
    """Passes find children by owner and label: what lacks either is never seen, and must not be touched."""
    owner, metadata = run.facts.owner, live["metadata"]
    name = f"{kind.name} {metadata['name']}"
    if not is_owned(live, owner.uid):
        message = f"{name} exists and is not of dbrs/{owner.name}; it stays untouched: rename or delete it"
        raise Refused(message, reason=Reason.NAME_CONFLICT)
    if metadata.get("labels", {}).get(SET_LABEL) != owner.name:
        message = f"{name} has lost its label {SET_LABEL}={owner.name}: put it back, or delete the {kind.name}"
        raise Refused(message, reason=Reason.NAME_CONFLICT)
