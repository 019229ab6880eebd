"""From spec and guard to what a new pod is built from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.children import Owner
from headroom.manifests.configuration import ReplicaSettings, build_config
from headroom.manifests.pod import Upstream, build_template_hash
from headroom.model.database import ConnectionTarget, DatabaseView, ServerFacts
from headroom.ports.kube import Manifest


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What a new pod is built from; `template` is its hash."""

    config: Mapping[str, Any]
    upstream: Upstream
    template: str

    @property
    def config_name(self) -> str:
        """Name of the ConfigMap."""
        return str(self.config["metadata"]["name"])


def build_upstream(view: DatabaseView | None, guard: Manifest | None, authorities: str | None) -> Upstream | None:
    """Where members copy and stream from; None while the primary's facts, or the login for it, are not known.

    The guard's own object names the Secrets that pods mount. Members trust what the operator trusts. If the target has
    no CA, that is `authorities`, since libpq in a pod has none.
    """
    if view is None or view.server is None or view.target is None or view.replication is None:
        return None
    connection = (guard or {}).get("spec", {}).get("connection", {})
    credentials_secret = connection.get("replicationSecretRef", {}).get("name", "")
    certificate_secret = connection.get("tls", {}).get("clientCertificateSecretRef", {}).get("name", "")
    has_certificate = view.target.client_certificate_pem is not None
    if not credentials_secret or (has_certificate and not certificate_secret):
        return None
    return Upstream(
        target=_with_trust(view.target, authorities),
        user=view.replication.username,
        credentials_secret=credentials_secret,
        system_identifier=view.server.system_identifier,
        major=view.server.major,
        monitor_role=view.target.credentials.username,
        client_certificate_secret=certificate_secret if has_certificate else None,
    )


def build_pod_template(owner: Owner, spec: ReplicaSetSpec, server: ServerFacts, upstream: Upstream) -> PodTemplate:
    """Render the configuration and take the hash; costs some milliseconds, so the caller keeps the result."""
    settings = ReplicaSettings(
        parameters=spec.postgresql.parameters,
        hba=spec.postgresql.hba,
        has_hot_standby_feedback=spec.postgresql.hot_standby_feedback,
        eject_replay_lag=spec.readiness.eject_replay_lag,
        monitor_role=upstream.monitor_role,
        monitor_method=upstream.target.password_method,
        replication_role=upstream.user,
        allows_plaintext=spec.tls.allow_plaintext,
        ignored_libraries=spec.readiness.ignore_libraries,
    )
    config = build_config(owner, settings, server, upstream.target.ca_pem)
    name = str(config["metadata"]["name"])
    return PodTemplate(config, upstream, build_template_hash(owner, spec, config=name, upstream=upstream))


def _with_trust(target: ConnectionTarget, authorities: str | None) -> ConnectionTarget:
    if target.ca_pem is not None or not target.tls_mode.startswith("verify"):
        return target
    return replace(target, ca_pem=authorities)
