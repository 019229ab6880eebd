"""Logins: read from Secrets one by one, kept for a minute, and tried with a back-off while they are refused.

Every method of `SecretReader` raises `Refused`. Its reason distinguishes a missing Secret, a missing key and unusable
content; its message names the Secret, the key, the field of the spec and the remedy. Values never appear in a message.
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from headroom.api.v1alpha1.common import SecretKeyRef
from headroom.api.v1alpha1.connection import PostgresConnection
from headroom.errors import KubeUnavailable, Refused, Unavailable
from headroom.model.certificates import find_certificate_problem, find_key_problem
from headroom.model.conditions import Finding
from headroom.model.database import ConnectionTarget, Credentials
from headroom.policy.permitted import Permitted
from headroom.ports.clock import Clock
from headroom.ports.kube import SECRET, KubeReader, Manifest, ObjectRef
from headroom.reasons import Reason

T = TypeVar("T")

READ_AGAIN_SECONDS = 60.0
RETRY_SECONDS = 2.0
"""A Secret that is missing or does not serve is read again this often."""
SHORT_WAIT_SECONDS = 0.3
LOGIN_RETRY_SECONDS = 10.0
"""A login that was refused is tried again this often while its Secret stays as it is: servers count failures."""
LOGIN_REASONS = frozenset(
    {Reason.PASSWORD_REJECTED, Reason.TLS_FAILED, Reason.PASSWORD_METHOD_WEAK, Reason.DATABASE_NOT_FOUND}
)
"""What a server refuses a login for: the Secret may have changed since it was read."""
MOST_LINE_CHARACTERS = 4096
"""Of a user name or a password."""
CONTENT = frozenset({"f:data", "f:stringData"})
SECRET_REASONS = frozenset(
    {Reason.SECRET_NOT_FOUND, Reason.SECRET_KEY_MISSING, Reason.SECRET_INVALID, Reason.SECRET_NOT_PERMITTED}
)


@dataclass(slots=True)
class CachedLogin(Generic[T]):
    """What was read from Secrets for one part of a spec: read again every minute, and earlier when told to.

    Reads are waited for until one has found a login. Later ones run in a separate task, so that a slow API server
    delays no pass for long; the next `get` returns what they found.
    """

    clock: Clock
    _source: object = None
    _value: T | None = None
    _error: Exception | None = None
    """Why the last read failed; the value of an earlier one is wrong then, and not returned."""
    _read_at: float = 0.0
    _must_read: bool = False
    _reading: "asyncio.Task[None] | None" = None

    async def get(self, source: object, read: Callable[[], Awaitable[T]]) -> T:
        """The login of `source`, the part of the spec it is read for; raises what `read` raised last.

        An API server that does not answer changes nothing: the login that is known stays.
        """
        if self._source != source:
            self._begin(source)
        if self._value is not None and self._is_due():
            self._reading = asyncio.create_task(self._read_again(read))
            # An API server at its usual speed answers within this pass; a slow one delays it no further.
            await asyncio.wait({self._reading}, timeout=SHORT_WAIT_SECONDS)
        elif self._value is None and (self._error is None or self._is_due()):
            await self._read(read)
        if self._error is not None:
            # Without the frames of the passes that raised it before.
            raise self._error.with_traceback(None)
        assert self._value is not None
        return self._value

    def read_again(self, *, is_due: bool = True) -> None:
        """Read the Secrets at the next `get`, since the login did not serve; not more often than every 2 s."""
        self._must_read = is_due

    def _begin(self, source: object) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._source, self._value, self._error, self._reading = source, None, None, None

    def _is_due(self) -> bool:
        if self._reading is not None and not self._reading.done():
            return False
        is_early = self._must_read or self._error is not None
        return self.clock.monotonic() - self._read_at >= (RETRY_SECONDS if is_early else READ_AGAIN_SECONDS)

    async def _read_again(self, read: Callable[[], Awaitable[T]]) -> None:
        try:
            await self._read(read)
        except KubeUnavailable:
            self._must_read = True

    async def _read(self, read: Callable[[], Awaitable[T]]) -> None:
        """Keep what is read, or why it cannot be read; raises KubeUnavailable."""
        self._read_at, self._must_read = self.clock.monotonic(), False
        try:
            self._value, self._error = await read(), None
        except KubeUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  raised by each `get` until a later read finds a login
            self._error = error


@dataclass(slots=True)
class LoginBackoff:
    """The last refusal of a login, so that a wrong password is not tried every second."""

    clock: Clock
    retry_seconds: float = LOGIN_RETRY_SECONDS
    reasons: frozenset[Reason] | None = field(default=LOGIN_REASONS)
    """What counts as a refusal; None: every failure."""
    _login: object = None
    _error: Unavailable | None = None
    _at: float = 0.0
    refused_since: datetime | None = None
    """When the present login was refused for the first time; None while none is."""

    def check(self, login: object) -> None:
        """Raise the last refusal again while it is too early to try the same login once more."""
        is_early = self._login == login and self.clock.monotonic() - self._at < self.retry_seconds
        if self._error is not None and is_early:
            raise self._error

    def record(self, login: object, error: Unavailable) -> None:
        """Remember why a login failed, if it is the login's fault."""
        if self.reasons is None or error.reason in self.reasons:
            if self.refused_since is None or self._login != login:
                self.refused_since = self.clock.now()
            self._login, self._error, self._at = login, error, self.clock.monotonic()

    def clear(self) -> None:
        """The login works."""
        self._login, self._error, self.refused_since = None, None, None


@dataclass(frozen=True, slots=True)
class SecretReader:
    """Reads Secrets of one namespace, as far as the installation permits it.

    `changed` says when the content of each that was read was last written.
    """

    kube: KubeReader
    namespace: str
    permitted: Permitted = field(default_factory=Permitted)
    changed: dict[str, datetime] = field(default_factory=dict, compare=False)

    async def check(self, name: str, where: str) -> None:
        """Raise Refused if a Secret that a pod is to mount is missing or not permitted; `where` is the field."""
        await self._get(name, where)

    async def credentials(self, name: str, field: str) -> Credentials:
        """The keys `username` and `password`; a line end after them, as `echo` leaves, does not belong to them."""
        secret = await self._get(name, field)
        return Credentials(*(self._line(secret, name, key, field) for key in ("username", "password")))

    async def text(self, ref: SecretKeyRef, field: str) -> str:
        """One key as text."""
        return self._value(await self._get(ref.name, field), ref.name, ref.key, field)

    async def certificates(self, ref: SecretKeyRef, field: str) -> str:
        """One key that holds one or more certificates (PEM)."""
        pem = await self.text(ref, field)
        _check(find_certificate_problem(pem), ref.name, ref.key, field)
        return pem

    async def certificate_and_key(self, name: str, field: str) -> tuple[str, str]:
        """The keys `tls.crt` and `tls.key` of a Secret of type kubernetes.io/tls (PEM)."""
        secret = await self._get(name, field)
        certificate = self._value(secret, name, "tls.crt", field)
        key = self._value(secret, name, "tls.key", field)
        _check(find_certificate_problem(certificate), name, "tls.crt", field)
        _check(find_key_problem(key), name, "tls.key", field)
        return certificate, key

    async def target(self, connection: PostgresConnection, field: str) -> ConnectionTarget:
        """All that a connection of a spec stands for; `field` is its path."""
        tls = connection.tls
        ca = certificate = key = None
        credentials = await self.credentials(connection.credentials_secret_ref.name, f"{field}.credentialsSecretRef")
        if tls.ca_secret_ref is not None:
            ca = await self.certificates(tls.ca_secret_ref, f"{field}.tls.caSecretRef")
        if tls.client_certificate_secret_ref is not None:
            where = f"{field}.tls.clientCertificateSecretRef"
            certificate, key = await self.certificate_and_key(tls.client_certificate_secret_ref.name, where)
        return ConnectionTarget(
            host=qualify_host(connection.host, self.namespace),
            port=connection.port,
            database=connection.database,
            credentials=credentials,
            tls_mode=str(tls.mode),
            ca_pem=ca,
            client_certificate_pem=certificate,
            client_key_pem=key,
            password_method=str(connection.password_method),
            namespace=self.namespace,
        )

    async def _get(self, name: str, field: str) -> Manifest:
        # By its name first: what may not be used is not even read.
        _refuse(self.permitted.find_name_problem(name, field))
        secret = await self.kube.get(ObjectRef(SECRET, self.namespace, name))
        if secret is None:
            message = f"{field}: Secret {name} does not exist; create it in namespace {self.namespace}"
            raise Refused(message, reason=Reason.SECRET_NOT_FOUND)
        _refuse(self.permitted.find_secret_problem(name, secret["metadata"].get("labels") or {}, field))
        self.record_change(name, secret)
        return secret

    def record_change(self, name: str, secret: Manifest) -> None:
        """Keep when the content was last written, if the API server has noted it."""
        entries = secret["metadata"].get("managedFields", ())
        # What somebody else writes, such as a label, is not its content.
        times = [entry["time"] for entry in entries if not CONTENT.isdisjoint(entry.get("fieldsV1") or ())]
        self.changed.update({name: max(map(datetime.fromisoformat, times))} if times else {})

    def _value(self, secret: Manifest, name: str, key: str, field: str) -> str:
        encoded = (secret.get("data") or {}).get(key)
        if encoded is None:
            message = f"{field}: Secret {name} has no key {key}; add it"
            raise Refused(message, reason=Reason.SECRET_KEY_MISSING)
        try:
            value = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _invalid(name, key, field, "is not text") from error
        if not value.strip():
            raise _invalid(name, key, field, "is empty")
        return value

    def _line(self, secret: Manifest, name: str, key: str, field: str) -> str:
        value = self._value(secret, name, key, field).rstrip("\r\n")
        if any(character in value for character in "\r\n\0"):
            raise _invalid(name, key, field, "has more than one line")
        if len(value) > MOST_LINE_CHARACTERS:
            raise _invalid(name, key, field, f"is longer than {MOST_LINE_CHARACTERS} characters")
        return value


def _refuse(problem: Finding | None) -> None:
    if problem is not None:
        raise Refused(problem.message, reason=problem.reason)


def _check(problem: str | None, name: str, key: str, field: str) -> None:
    if problem is not None:
        raise _invalid(name, key, field, problem)


def _invalid(name: str, key: str, field: str, problem: str) -> Refused:
    return Refused(f"{field}: key {key} of Secret {name} {problem}; replace it", reason=Reason.SECRET_INVALID)


def qualify_host(host: str, namespace: str) -> str:
    """Complete a bare Service name with the resource's namespace; an address or a dotted name stays as it is.

    The cluster's own domain is left to the resolver's search list.
    """
    is_bare = "." not in host and ":" not in host
    return f"{host}.{namespace}.svc" if is_bare else host
