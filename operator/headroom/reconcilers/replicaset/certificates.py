"""By what clients and the operator verify the servers of a set: certificates that its pods reported, or the user's."""

from collections.abc import Iterable, Mapping

from headroom.api.v1alpha1.common import SecretKeyRef
from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.errors import Refused, Unavailable
from headroom.manifests.children import BUNDLE_KEY, Owner, bundle_name, parse_bundle
from headroom.model.replica import Role
from headroom.model.text import clean_text
from headroom.policy.replicaset.members import EvaluatedMember
from headroom.ports.kube import CONFIG_MAP, KubeCache, ObjectRef
from headroom.reconcilers.context import Services
from headroom.reconcilers.logins import CachedLogin, SecretReader
from headroom.reconcilers.replicaset.children import is_owned
from headroom.reconcilers.replicaset.memory import SetHandles

WITHOUT = "no TLS: "
"""How the seed step begins its report when its image cannot make a certificate."""
MOST_OF_REPORT = 100
FIELD = "spec.tls.certificateSecretRef"


def read_bundle(cache: KubeCache, owner: Owner) -> Mapping[str, str]:
    """The authority of each member by its name, as clients find it now; empty while the ConfigMap is not ours."""
    live = cache.get(ObjectRef(CONFIG_MAP, owner.namespace, bundle_name(owner.name)))
    if live is None or not is_owned(live, owner.uid):
        return {}
    return parse_bundle(live.get("data") or {})


async def read_given_authority(services: Services, handles: SetHandles, owner: Owner, spec: ReplicaSetSpec) -> str:
    """The key ca.crt of the spec's Secret (PEM), read once a minute; empty if there is no Secret, or no such key."""
    given = spec.tls.certificate_secret_ref
    if given is None:
        return ""
    reader = SecretReader(services.kube, owner.namespace, services.permitted)

    async def read() -> str:
        try:
            return await reader.certificates(SecretKeyRef(name=given.name, key=BUNDLE_KEY), FIELD)
        except Refused:
            # Authorities that everybody knows are in no Secret.
            return ""

    handles.given = handles.given or CachedLogin(services.clock)
    try:
        return await handles.given.get(given, read)
    except Unavailable:
        return handles.given_authority


def describe_encryption(members: Iterable[EvaluatedMember], spec: ReplicaSetSpec, given_authority: str) -> str:
    """What a person should know of the TLS of the serving replicas, as the end of a sentence."""
    pods = [member.facts.pod for member in members if member.facts.role is Role.SERVING]
    plain = [pod for pod in pods if pod is not None and not pod.has_tls]
    if plain:
        why = next((pod.seed.report.removeprefix(WITHOUT) for pod in plain if pod.seed.report.startswith(WITHOUT)), "")
        cause = f" ({clean_text(why.strip(), MOST_OF_REPORT)})" if why else ""
        return f"; without TLS{cause}, see spec.tls"
    if spec.tls.certificate_secret_ref is not None and not given_authority:
        name = spec.tls.certificate_secret_ref.name
        return f"; replicas are not verified: add their authority to Secret {name} as {BUNDLE_KEY}"
    if spec.postgresql.hba or spec.tls.allow_plaintext:
        return ""
    return "; clients need TLS, unless spec.tls.allowPlaintext is true"
