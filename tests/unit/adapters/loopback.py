"""An API server on loopback that answers as a test tells it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes.aio.client import Configuration

from headroom.adapters.clock import SystemClock


def build_authority() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = SystemClock().now()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


ANY_AUTHORITY = build_authority()


@asynccontextmanager
async def run_server(handle: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[Configuration]:
    """Serve while the block lasts; returns how a client reaches it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    # A file of one authority spares each client the reading of the system's.
    yield Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}", ca_cert_data=ANY_AUTHORITY)
    await runner.cleanup()
