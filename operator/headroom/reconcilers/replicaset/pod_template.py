"""From spec and guard to what a pod would be made from now."""

from dataclasses import replace

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.configuration import ReplicaSettings
from headroom.manifests.ownership import Owner
from headroom.manifests.pod import Upstream, build_template_hash
from headroom.manifests.storage import build_config
from headroom.model.database import ConnectionTarget, ServerFacts
from headroom.ports.postgres import Postgres
from headroom.reconcilers.board import GuardView
from headroom.reconcilers.replicaset.memory import PodTemplate, SetMemory


def build_pod_template(
    owner: Owner, spec: ReplicaSetSpec, view: GuardView | None, memory: SetMemory, postgres: Postgres
) -> PodTemplate | None:
    """None while the primary, its facts, or the login to replicate with are not known."""
    if view is None or view.server is None or view.target is None or view.replication is None:
        return None
    has_certificate = view.target.client_certificate_pem is not None
    if not memory.replication_secret or (has_certificate and not memory.client_certificate_secret):
        return None
    upstream = Upstream(
        target=_with_trust(view.target, postgres),
        user=view.replication.username,
        credentials_secret=memory.replication_secret,
        system_identifier=view.server.system_identifier,
        major=view.server.major,
        monitor_role=view.target.credentials.username,
        client_certificate_secret=memory.client_certificate_secret if has_certificate else None,
    )
    made_from = (memory.generation, upstream, view.server.settings)
    if memory.pod_template is None or memory.pod_template[0] != made_from:
        memory.pod_template = made_from, _draw(owner, spec, view.server, upstream)
    return memory.pod_template[1]


def _with_trust(target: ConnectionTarget, postgres: Postgres) -> ConnectionTarget:
    """Members trust what the operator trusts: libpq in a pod has no authorities of its own to fall back to."""
    if target.ca_pem is not None or not target.tls_mode.startswith("verify"):
        return target
    return replace(target, ca_pem=postgres.read_system_authorities())


def _draw(owner: Owner, spec: ReplicaSetSpec, server: ServerFacts, upstream: Upstream) -> PodTemplate:
    settings = ReplicaSettings(
        parameters=spec.postgresql.parameters,
        hba=spec.postgresql.hba,
        has_hot_standby_feedback=spec.postgresql.hot_standby_feedback,
        eject_replay_lag=spec.readiness.eject_replay_lag,
        has_certificate=spec.tls is not None,
        monitor_role=upstream.monitor_role,
    )
    config = build_config(owner, settings, server, upstream.target.ca_pem)
    name = str(config["metadata"]["name"])
    return PodTemplate(config, upstream, build_template_hash(owner, spec, config=name, upstream=upstream))
