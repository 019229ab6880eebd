"""From spec and guard to what a pod would be made from now."""

from headroom.api.v1alpha1.replicaset import ReplicaSetSpec
from headroom.manifests.configuration import ReplicaSettings
from headroom.manifests.ownership import Owner
from headroom.manifests.pod import Upstream, build_template_hash
from headroom.manifests.storage import build_config
from headroom.model.database import ServerFacts
from headroom.reconcilers.board import GuardView
from headroom.reconcilers.replicaset.memory import Blueprint, SetMemory


def build_blueprint(owner: Owner, spec: ReplicaSetSpec, view: GuardView | None, memory: SetMemory) -> Blueprint | None:
    """None while the primary, its facts, or the login to replicate with are not known."""
    if view is None or view.server is None or view.target is None or view.replication is None:
        return None
    if not memory.replication_secret:
        return None
    upstream = Upstream(
        target=view.target,
        user=view.replication.username,
        credentials_secret=memory.replication_secret,
        system_identifier=view.server.system_identifier,
        major=view.server.major,
        monitor_role=view.target.credentials.username,
    )
    made_from = (memory.generation, upstream, view.server.settings)
    if memory.blueprint is None or memory.blueprint[0] != made_from:
        memory.blueprint = made_from, _draw(owner, spec, view.server, upstream)
    return memory.blueprint[1]


def _draw(owner: Owner, spec: ReplicaSetSpec, server: ServerFacts, upstream: Upstream) -> Blueprint:
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
    return Blueprint(config, upstream, build_template_hash(owner, spec, config=name, upstream=upstream))
