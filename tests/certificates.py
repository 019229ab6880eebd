"""Certificates for tests of TLS, issued by trustme."""

import os
import ssl

import trustme

from tests.postgres_server import Server


class Authority:
    """A certificate authority with one root."""

    def __init__(self, name: str = "test authority") -> None:
        self._ca = trustme.CA(organization_unit_name=name)

    @property
    def ca_pem(self) -> str:
        """The root certificate."""
        return self._ca.cert_pem.bytes().decode()

    def issue(self, common_name: str, *alternatives: str) -> tuple[str, str]:
        """A certificate and its key (PEM) for these host names or addresses."""
        issued = self._ca.issue_cert(*alternatives, common_name=common_name)
        return issued.cert_chain_pems[0].bytes().decode(), issued.private_key_pem.bytes().decode()

    def serve(self, *names: str) -> ssl.SSLContext:
        """The server's side of TLS with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        return context


def encrypt(server: Server, authority: Authority, *names: str) -> Server:
    """Start a server that was made with `ssl="on"` and not started, with a certificate for these names."""
    certificate, key = authority.issue("primary", *names)
    for name, content in (("server.crt", certificate), ("server.key", key), ("root.crt", authority.ca_pem)):
        path = server.data / name
        path.write_text(content)
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, *server.installation.ids)
    server.settings["ssl_ca_file"] = "root.crt"
    server.start()
    return server
