"""Whether the installation permits the pods of a set: their image, and the Secrets that they mount."""

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.errors import Refused, Unavailable
from headroom.model.conditions import Finding
from headroom.ports.kube import Manifest
from headroom.reconcilers.context import Services
from headroom.reconcilers.logins import CachedLogin, SecretReader
from headroom.reconcilers.replicaset.memory import SetHandles


async def find_prohibition(
    services: Services, handles: SetHandles, namespace: str, spec: ReplicaSetSpec, guard: Manifest | None
) -> Finding | None:
    """Why the installation permits no pod of this spec; None if it does. The guard's Secrets count too: its object may
    name others by now than those that its login was read from.

    The API server is asked only where a rule is about labels, and then once a minute.
    """
    permitted, mounted = services.permitted, find_mounted(spec, guard)
    problems = (permitted.find_name_problem(name, where) for name, where in mounted)
    problem = permitted.find_image_problem(spec.image) or next((found for found in problems if found), None)
    if problem is not None or not permitted.secret_label:
        return problem
    reader = SecretReader(services.kube, namespace, permitted)

    async def check() -> bool:
        for name, where in mounted:
            await reader.check(name, where)
        return True

    handles.permission = handles.permission or CachedLogin(services.clock)
    try:
        await handles.permission.get((permitted, mounted), check)
    except (Refused, Unavailable) as error:
        return Finding(error.reason, str(error))
    return None


def find_mounted(spec: ReplicaSetSpec, guard: Manifest | None) -> tuple[tuple[str, str], ...]:
    """The Secrets that a pod mounts by their names, each with the field that names it."""
    connection = (guard or {}).get("spec", {}).get("connection", {})
    named = {
        "dbg spec.connection.replicationSecretRef": connection.get("replicationSecretRef"),
        "dbg spec.connection.tls.clientCertificateSecretRef": connection.get("tls", {}).get(
            "clientCertificateSecretRef"
        ),
    }
    found = [(str(ref["name"]), where) for where, ref in named.items() if ref]
    if spec.tls.certificate_secret_ref is not None:
        found.append((spec.tls.certificate_secret_ref.name, "spec.tls.certificateSecretRef"))
    return tuple(found)
