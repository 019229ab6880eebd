"""Secrets: what is wrong is named by Secret, key and field; values never are."""

import asyncio
import base64
import functools
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from headroom.adapters.inmemory.clock import MemoryClock
from headroom.adapters.inmemory.kube import MemoryKube
from headroom.adapters.inmemory.kube_cluster import Cluster
from headroom.api.v1alpha1.common import SecretKeyRef
from headroom.api.v1alpha1.connection import PostgresConnection
from headroom.errors import KubeUnavailable, PrimaryUnavailable, Refused
from headroom.model.certificates import MOST_CERTIFICATE_CHARACTERS, MOST_CERTIFICATES, find_key
from headroom.reasons import Reason
from headroom.reconcilers.logins import (
    LOGIN_RETRY_SECONDS,
    MOST_LINE_CHARACTERS,
    RETRY_SECONDS,
    CachedLogin,
    LoginBackoff,
    SecretReader,
)
from tests.certificates import Authority
from tests.keys import make_rsa, make_unbinding, wrap, wrap_der, write_pem


class Shop:
    def __init__(self) -> None:
        self.kube = MemoryKube()
        self.reader = SecretReader(self.kube, "shop")

    def add(self, name: str, **values: bytes | str) -> None:
        data = {
            key.replace("_", "."): base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
            for key, value in values.items()
        }
        metadata = {"name": name, "namespace": "shop"}
        Cluster(self.kube).seed({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def test_a_login_is_read_without_the_line_end_that_echo_leaves(shop: Shop) -> None:
    shop.add("login", username="monitor\n", password=" pass word \r\n")
    found = await shop.reader.credentials("login", "spec.x")
    assert (found.username, found.password) == ("monitor", " pass word ")
    assert "pass word" not in repr(found)


@pytest.mark.parametrize(
    ("values", "reason", "named"),
    [
        (None, Reason.SECRET_NOT_FOUND, "create it in namespace shop"),
        ({}, Reason.SECRET_KEY_MISSING, "username"),
        ({"username": "m"}, Reason.SECRET_KEY_MISSING, "password"),
        ({"username": "", "password": "hidden"}, Reason.SECRET_INVALID, "username"),
        ({"username": "m", "password": b"\xff\xfehidden"}, Reason.SECRET_INVALID, "password"),
        ({"username": "m\nn", "password": "hidden"}, Reason.SECRET_INVALID, "username"),
        ({"username": "m", "password": "hid\0den"}, Reason.SECRET_INVALID, "password"),
    ],
)
async def test_what_is_wrong_with_a_login_is_named(
    shop: Shop, values: dict[str, Any] | None, reason: Reason, named: str
) -> None:
    if values is not None:
        shop.add("login", **values)
    with pytest.raises(Refused) as caught:
        await shop.reader.credentials("login", "spec.connection.credentialsSecretRef")
    assert caught.value.reason is reason
    message = str(caught.value)
    assert named in message
    assert "login" in message
    assert "spec.connection.credentialsSecretRef" in message
    assert "hid" not in message


async def test_a_forbidden_secret_stays_refused(shop: Shop) -> None:
    shop.kube.faults.fail(Refused("get secrets is forbidden", reason=Reason.FORBIDDEN), verb="get")
    with pytest.raises(Refused):
        await shop.reader.credentials("login", "spec.x")


async def test_certificates_are_parsed(shop: Shop, authority: Authority) -> None:
    shop.add("ca", ca_crt=authority.ca_pem)
    ref = SecretKeyRef(name="ca", key="ca.crt")
    assert await shop.reader.certificates(ref, "spec.x") == authority.ca_pem


@pytest.mark.parametrize(
    "content",
    [
        "not a certificate",
        "-----BEGIN CERTIFICATE-----\nbm90IERFUg==\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIB!\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n" * 9,
    ],
    ids=["no PEM", "no certificate inside", "cut off", "no base64", "no end"],
)
async def test_a_certificate_that_does_not_parse_is_refused(shop: Shop, content: str) -> None:
    shop.add("ca", ca_crt=content)
    with pytest.raises(Refused) as caught:
        await shop.reader.certificates(SecretKeyRef(name="ca", key="ca.crt"), "spec.connection.tls.caSecretRef")
    assert caught.value.reason is Reason.SECRET_INVALID
    assert "ca.crt" in str(caught.value)


async def test_certificates_are_bounded(shop: Shop, authority: Authority) -> None:
    """976 KiB of certificates took 10 MiB for each way to write them, and 0.7 s of the event loop."""
    shop.add("system", ca_crt=authority.ca_pem * 150)
    await shop.reader.certificates(SecretKeyRef(name="system", key="ca.crt"), "spec.x")
    for name, content, bound in (
        ("many", authority.ca_pem * (MOST_CERTIFICATES + 1), f"more than {MOST_CERTIFICATES} certificates"),
        ("long", authority.ca_pem + "#" * MOST_CERTIFICATE_CHARACTERS, "longer than 256 KiB"),
        ("begin", "-----BEGIN CERTIFICATE-----" * 30_000, "longer than 256 KiB"),
        ("hollow", "-----BEGIN CERTIFICATE-----" * 9_000, "no PEM certificate"),
    ):
        shop.add(name, ca_crt=content, tls_crt=content, tls_key=authority.ca_pem)
        began = time.process_time()
        with pytest.raises(Refused, match=bound) as caught:
            await shop.reader.certificates(SecretKeyRef(name=name, key="ca.crt"), "spec.x")
        assert caught.value.reason is Reason.SECRET_INVALID
        with pytest.raises(Refused, match=bound):
            await shop.reader.certificate_and_key(name, "spec.x")
        assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n", "passphrase"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END RSA PRIVATE KEY-----\n",
            "passphrase",
        ),
        ("-----BEGIN PRIVATE KEY-----" * 1000, "no PEM private key"),
        ("#" * 40_000, "longer than 32 KiB"),
        (make_rsa(16_384)[0], "RSA key of more than 4096 bits"),
        (wrap(make_rsa(8192)[0]), "RSA key of more than 4096 bits"),
        (write_pem("RSA PRIVATE KEY", b"0\x80\2\1\0" + b"?" * 50), "does not parse"),
        (write_pem("PRIVATE KEY", functools.reduce(wrap_der, range(900), b"0\0")), "does not parse"),
        ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "does not parse"),
    ],
    ids=["PKCS 8", "older", "no end", "long", "large", "large in PKCS 8", "without an end", "nested", "no base64"],
)
async def test_a_key_that_nobody_can_use_is_refused(shop: Shop, authority: Authority, key: str, problem: str) -> None:
    shop.add("login", tls_crt=authority.ca_pem, tls_key=key)
    with pytest.raises(Refused, match=problem) as caught:
        await shop.reader.certificate_and_key("login", "spec.x")
    assert caught.value.reason is Reason.SECRET_INVALID


async def test_usual_keys_are_accepted(shop: Shop, authority: Authority) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    forms = (PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8)
    curves = [curve.private_bytes(Encoding.PEM, form, NoEncryption()).decode() for form in forms]
    keys = (make_rsa(4096)[0], wrap(make_rsa(4096)[0]), make_unbinding()[1], authority.issue("monitor")[1], *curves)
    for number, key in enumerate(keys):
        shop.add(f"login{number}", tls_crt=authority.ca_pem, tls_key=f"Bag Attributes: none\n{key}")
        assert (await shop.reader.certificate_and_key(f"login{number}", "spec.x"))[1].endswith(key)
        assert find_key(f"Bag Attributes: none\n{key}") == key


async def test_a_line_of_a_login_is_bounded(shop: Shop) -> None:
    """Each character of a password that is not ASCII is looked up in thirteen tables."""
    shop.add("long", username="m", password="ü" * 1000)
    assert len((await shop.reader.credentials("long", "spec.x")).password) == 1000
    shop.add("longer", username="m", password="ü" * (MOST_LINE_CHARACTERS + 1))
    with pytest.raises(Refused, match="longer than") as caught:
        await shop.reader.credentials("longer", "spec.x")
    assert caught.value.reason is Reason.SECRET_INVALID
    assert "ü" not in str(caught.value)


async def test_a_client_certificate_needs_its_key(shop: Shop, authority: Authority) -> None:
    certificate, key = authority.issue("monitor")
    shop.add("good", tls_crt=certificate, tls_key=key)
    shop.add("bad", tls_crt=certificate, tls_key=certificate)
    assert await shop.reader.certificate_and_key("good", "spec.x") == (certificate, key)
    with pytest.raises(Refused) as caught:
        await shop.reader.certificate_and_key("bad", "spec.x")
    assert caught.value.reason is Reason.SECRET_INVALID
    assert "tls.key" in str(caught.value)


async def test_a_target_has_all_of_a_connection(shop: Shop, authority: Authority) -> None:
    certificate, key = authority.issue("monitor")
    shop.add("login", username="m", password="p")
    shop.add("ca", ca_crt=authority.ca_pem)
    shop.add("client", tls_crt=certificate, tls_key=key)
    connection = PostgresConnection.model_validate(
        {
            "host": "store",
            "port": 5433,
            "database": "shop",
            "tls": {
                "mode": "verify-ca",
                "caSecretRef": {"name": "ca", "key": "ca.crt"},
                "clientCertificateSecretRef": {"name": "client"},
            },
            "credentialsSecretRef": {"name": "login"},
        }
    )
    target = await shop.reader.target(connection, "spec.connection")
    assert (target.host, target.port, target.database) == ("store.shop.svc", 5433, "shop")
    assert target.tls_mode == "verify-ca"
    assert (target.ca_pem, target.client_certificate_pem, target.client_key_pem) == (authority.ca_pem, certificate, key)
    assert "PRIVATE KEY" not in repr(target)


class Secrets:
    """What `read` finds, how long it takes, and how often it was asked."""

    def __init__(self, clock: MemoryClock) -> None:
        self.clock = clock
        self.reads = 0
        self.seconds = 0.0
        self.error: Exception | None = None

    async def read(self) -> str:
        self.reads += 1
        number, error = self.reads, self.error
        await self.clock.sleep(self.seconds)
        if error is not None:
            raise error
        return f"login {number}"


class TestCachedLogin:
    """A login is read again every minute, after an edit of the spec, and when it did not serve."""

    def make(self) -> tuple[MemoryClock, CachedLogin[str], Secrets]:
        clock = MemoryClock()
        return clock, CachedLogin(clock), Secrets(clock)

    async def test_it_is_read_once_a_minute(self) -> None:
        clock, login, secrets = self.make()
        for _ in range(180):
            await login.get("spec", secrets.read)
            await clock.advance(1)
        assert secrets.reads == 3

    async def test_an_edit_reads_it_at_once(self) -> None:
        _, login, secrets = self.make()
        assert await login.get("spec", secrets.read) == "login 1"
        assert await login.get("other spec", secrets.read) == "login 2"
        assert await login.get("other spec", secrets.read) == "login 2"

    async def test_a_refusal_reads_it_again_at_most_every_two_seconds(self) -> None:
        clock, login, secrets = self.make()
        assert await login.get("spec", secrets.read) == "login 1"
        await clock.advance(RETRY_SECONDS)
        login.read_again(is_due=False)
        assert await login.get("spec", secrets.read) == "login 1"
        await clock.advance(0)
        assert secrets.reads == 1
        login.read_again()
        await login.get("spec", secrets.read)
        await clock.advance(1)
        assert await login.get("spec", secrets.read) == "login 2"
        for _ in range(60):
            login.read_again()
            await login.get("spec", secrets.read)
            await clock.advance(1)
        assert secrets.reads == 2 + 60 / RETRY_SECONDS

    async def test_a_slow_read_of_a_known_login_is_not_waited_for(self) -> None:
        clock, login, secrets = self.make()
        await login.get("spec", secrets.read)
        secrets.seconds = 9.0
        await clock.advance(60)
        for _ in range(9):
            assert await asyncio.wait_for(login.get("spec", secrets.read), 1) == "login 1"
            await clock.advance(1)
        assert await login.get("spec", secrets.read) == "login 2"
        assert secrets.reads == 2

    async def test_a_secret_that_is_missing_is_read_again_every_two_seconds(self) -> None:
        clock, login, secrets = self.make()
        secrets.error = Refused("there is none", reason=Reason.SECRET_NOT_FOUND)
        for _ in range(60):
            with pytest.raises(Refused):
                await login.get("spec", secrets.read)
            await clock.advance(1)
        assert secrets.reads == 60 / RETRY_SECONDS
        secrets.error = None
        assert await login.get("spec", secrets.read) == "login 31"

    async def test_a_login_whose_secret_was_deleted_is_not_used_any_more(self) -> None:
        clock, login, secrets = self.make()
        await login.get("spec", secrets.read)
        secrets.error = Refused("there is none", reason=Reason.SECRET_NOT_FOUND)
        await clock.advance(60)
        with pytest.raises(Refused):
            await login.get("spec", secrets.read)
        secrets.error = None
        await clock.advance(RETRY_SECONDS)
        assert await login.get("spec", secrets.read) == "login 3"

    async def test_an_edit_ends_the_read_for_the_old_spec(self) -> None:
        clock, login, secrets = self.make()
        await login.get("spec", secrets.read)
        await clock.advance(60)
        secrets.seconds = 9.0
        await login.get("spec", secrets.read)
        secrets.seconds = 0.0
        await clock.advance(1)
        assert await login.get("other spec", secrets.read) == "login 3"
        await clock.advance(9)
        assert await login.get("other spec", secrets.read) == "login 3"

    async def test_an_api_server_that_does_not_answer_changes_nothing_and_is_asked_again_soon(self) -> None:
        clock, login, secrets = self.make()
        await login.get("spec", secrets.read)
        secrets.error = KubeUnavailable("timed out", reason=Reason.KUBE_UNAVAILABLE)
        await clock.advance(60)
        for _ in range(61):
            assert await login.get("spec", secrets.read) == "login 1"
            await clock.advance(1)
        assert secrets.reads == 1 + 1 + 60 / RETRY_SECONDS
        with pytest.raises(KubeUnavailable):
            await login.get("another spec", secrets.read)
        secrets.error = None
        assert await login.get("another spec", secrets.read) == f"login {secrets.reads}"


def test_a_change_of_the_content_is_told_from_one_of_a_label(shop: Shop) -> None:
    """Who labels a Secret has changed no password."""
    content = {"time": "2026-01-01T08:16:44Z", "fieldsV1": {"f:data": {"f:password": {}}, "f:type": {}}}
    label = {"time": "2026-01-01T09:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}}}
    shop.reader.record_change("store", {"metadata": {"managedFields": [content, label]}})
    assert shop.reader.changed == {"store": datetime(2026, 1, 1, 8, 16, 44, tzinfo=UTC)}
    shop.reader.record_change("other", {"metadata": {}})
    assert set(shop.reader.changed) == {"store"}


class TestLoginBackoff:
    """A refused login is tried again after a pause, another one at once."""

    async def test_a_refused_login_waits_and_another_does_not(self) -> None:
        clock = MemoryClock()
        backoff = LoginBackoff(clock)
        backoff.check("login")
        backoff.record("login", PrimaryUnavailable("wrong password", reason=Reason.PASSWORD_REJECTED))
        with pytest.raises(PrimaryUnavailable, match="wrong password"):
            backoff.check("login")
        backoff.check("another login")
        await clock.advance(LOGIN_RETRY_SECONDS)
        backoff.check("login")
        backoff.clear()
        backoff.check("login")

    async def test_a_login_is_refused_since_its_first_refusal(self) -> None:
        clock = MemoryClock()
        backoff, began = LoginBackoff(clock), clock.now()
        error = PrimaryUnavailable("wrong password", reason=Reason.PASSWORD_REJECTED)
        for login, since in (("login", 0), ("login", 0), ("another login", 20), ("another login", 20)):
            backoff.record(login, error)
            assert backoff.refused_since == began + timedelta(seconds=since)
            await clock.advance(LOGIN_RETRY_SECONDS)
        backoff.clear()
        assert backoff.refused_since is None

    async def test_only_what_is_the_logins_fault_counts_unless_all_does(self) -> None:
        clock = MemoryClock()
        down = PrimaryUnavailable("down", reason=Reason.PRIMARY_UNREACHABLE)
        usual, strict = LoginBackoff(clock), LoginBackoff(clock, retry_seconds=5.0, reasons=None)
        for backoff in (usual, strict):
            backoff.record("login", down)
        usual.check("login")
        with pytest.raises(PrimaryUnavailable):
            strict.check("login")
        await clock.advance(5)
        strict.check("login")
