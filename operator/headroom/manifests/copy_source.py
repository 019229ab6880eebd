"""The source of a copy, as the seed step of a pod gets it; the server in the pod streams from the primary."""

from headroom.manifests.children import POSTGRES_PORT
from headroom.manifests.configuration import (
    CONNECT_TIMEOUT_SECONDS,
    PASSFILE,
    RUN_FOLDER,
    build_login_words,
    join_conninfo,
)
from headroom.model.copies import PRIMARY, CopySource
from headroom.model.database import ConnectionTarget

SOURCE_CA_FILE = f"{RUN_FOLDER}/source-ca.crt"
TRIES = 3
"""How many copies one run of the seed step begins from the primary; the reconciler limits the runs. From a standby it
is one: then the reconciler chooses another source."""


def build_source_environment(
    source: CopySource, target: ConnectionTarget, *, user: str, slot: str, major: int, primary_conninfo: str
) -> dict[str, str]:
    """The variables of the seed step alone; `target` is the primary, `user` the role that replicates."""
    conninfo = primary_conninfo if source.name == PRIMARY else ""
    if source.is_standby:
        conninfo = build_source_conninfo(source, target, user, slot, major)
    return {
        "SOURCE": source.name,
        "SOURCE_CONNINFO": conninfo,
        "SOURCE_CA": source.ca_pem,
        "TRIES": str(1 if source.is_standby else TRIES),
        "RESTORE": source.restored.consistency if source.restored is not None else "",
        "RESTORED_SLOT": source.restored.source_slot if source.restored is not None else "",
    }


def build_source_conninfo(source: CopySource, target: ConnectionTarget, user: str, slot: str, major: int) -> str:
    """How a standby is reached: at its pod's address, by the name in its certificate, and as `user` by a password.

    A member asks for no client's certificate. Where its own does not have its name, since a user gave it, the password
    binds the connection: only a server that knows the role's verifier can answer for that certificate.
    """
    words = {
        "host": source.name,
        "hostaddr": source.address,
        "port": str(POSTGRES_PORT),
        "user": user,
        "application_name": slot,
        "passfile": PASSFILE,
        "sslmode": source.tls_mode,
        "connect_timeout": str(CONNECT_TIMEOUT_SECONDS),
        "tcp_user_timeout": "10000",
    }
    if source.ca_pem:
        words["sslrootcert"] = SOURCE_CA_FILE
    is_bound = source.tls_mode == "verify-ca"
    return join_conninfo(
        {**words, **build_login_words(target.password_method, major, source.tls_mode, is_bound=is_bound)}
    )
