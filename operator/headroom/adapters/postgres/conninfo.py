"""What a connection starts with: whose it is, and the settings it runs with."""

from collections.abc import Mapping
from dataclasses import dataclass

from headroom.adapters.postgres.wire.tls import read_system_authorities
from headroom.model.database import ConnectionTarget

__all__ = ["CONNECT_SECONDS", "SessionNames", "build_startup_parameters", "read_system_authorities"]

CONNECT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class SessionNames:
    """Distinguishes our sessions from others: `lease` belongs to the operator, `holder` to this one process of it.

    Both at most 16 characters without a slash, so that `headroom/<role>/<lease>/<holder>` fits application_name.
    """

    lease: str
    holder: str

    def name(self, role: str) -> str:
        """application_name of the session that plays `role`."""
        return f"headroom/{role}/{self.lease}/{self.holder}"


def build_startup_parameters(
    target: ConnectionTarget, *, application_name: str, options: Mapping[str, str], is_replication: bool = False
) -> dict[str, str]:
    """The parameters of a startup message; the password is not among them."""
    parameters = {
        "user": target.credentials.username,
        "database": target.database,
        "application_name": application_name,
        "client_encoding": "UTF8",
    }
    if options:
        parameters["options"] = " ".join(f"-c {name}={_escape(value)}" for name, value in options.items())
    if is_replication:
        parameters["replication"] = "true"
    return parameters


def _escape(value: str) -> str:
    """The server splits `options` at white space that has no backslash before it."""
    return "".join(f"\\{char}" if char == "\\" or char.isspace() else char for char in value)
