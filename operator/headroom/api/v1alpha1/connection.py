"""How to reach a PostgreSQL server."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headroom.api.base import SpecModel, rule
from headroom.api.v1alpha1.common import Host, LocalRef, Port, SecretKeyRef, SqlName


class TlsMode(StrEnum):
    """libpq's sslmode, without the modes that fall back to an unencrypted connection."""

    DISABLE = "disable"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class PasswordMethod(StrEnum):
    """The weakest method by which a password is given to the server."""

    SCRAM = "scram-sha-256"
    MD5 = "md5"


class Tls(SpecModel):
    """How a connection is encrypted and verified."""

    mode: TlsMode = TlsMode.VERIFY_FULL
    """`verify-full` checks certificate and host name, `verify-ca` the certificate only, `require` encrypts without
    checking, `disable` does not encrypt. A condition reports every mode except verify-full."""
    ca_secret_ref: SecretKeyRef | None = None
    """The key of a Secret that holds the CA certificates (PEM) to trust. Absent: the certificates that the
    operator's system trusts."""
    client_certificate_secret_ref: LocalRef | None = None
    """A Secret of type kubernetes.io/tls with the certificate to log in with."""

    @rule(
        "self.mode != 'disable' || (!has(self.caSecretRef) && !has(self.clientCertificateSecretRef))",
        "certificates have no use with mode disable: remove them or choose verify-full",
        field=".mode",
    )
    def _needs_certificates_only_with_tls(self) -> bool:
        return self.mode is not TlsMode.DISABLE or not (self.ca_secret_ref or self.client_certificate_secret_ref)


class PostgresConnection(SpecModel):
    """A database on a PostgreSQL server, and the login to it."""

    host: Host
    """Host name or IP address of the server itself, not of a pooler; a Service that follows the primary is best."""
    port: Port = 5432
    """Port of the server."""
    database: SqlName
    """Name of the database to connect to."""
    tls: Tls = Tls()
    """Encryption and verification of the connection."""
    password_method: PasswordMethod = PasswordMethod.SCRAM
    """`scram-sha-256` never shows the password to the server, and the server proves that it knows it. `md5` also
    answers servers that ask for md5, from whose answer the password can be guessed; `Ready` of a DatabaseGuard then
    says so. A password in clear is never sent."""
    credentials_secret_ref: LocalRef
    """A Secret with the keys `username` and `password`. It is read again every minute."""


class Pooler(SpecModel):
    """A connection pooler, such as PgBouncer, that the workers go through."""

    pool_size: Annotated[int, Field(ge=1, le=100_000)]
    """Server connections the pooler may open for the workers. Their connection budget is at most this."""


class PrimaryConnection(PostgresConnection):
    """A primary: the database to watch, and a login for each purpose: one that watches it and reads no table, one that
    reads the tables of queues, one that replicas stream with, and one that fills the caches of standbys.
    """

    replication_secret_ref: LocalRef | None = None
    """A Secret with the keys `username` and `password` of a role with REPLICATION; only ReplicaSets need it."""
    queue_secret_ref: LocalRef | None = None
    """A Secret with the keys `username` and `password` of a role that may read the tables of queues in `database`, and
    nothing else; only WorkerPools with a preset and without a separate connection need it."""
    warmup_secret_ref: LocalRef | None = None
    """A Secret with the keys `username` and `password` of a role with pg_read_all_data. It is used on replicas only, to
    fill the caches of standbys; without it they start to serve with cold caches."""
    via: Pooler | None = None
    """The pooler in front of the workers, if there is one. Headroom itself always connects to `host`."""
