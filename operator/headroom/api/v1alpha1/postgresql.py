"""Settings of the replicas' PostgreSQL servers that the user may choose."""

import re
from typing import Annotated

from pydantic import Field

from headroom.api.base import SpecModel, cel_text, rule

OWN_PARAMETERS = (
    "allow_in_place_tablespaces",
    "cluster_name",
    "data_directory",
    "data_sync_retry",
    "event_source",
    "fsync",
    "full_page_writes",
    "hot_standby",
    "hot_standby_feedback",
    "idle_in_transaction_session_timeout",
    "include",
    "include_dir",
    "include_if_exists",
    "listen_addresses",
    "log_directory",
    "log_filename",
    "logging_collector",
    "max_standby_archive_delay",
    "max_standby_streaming_delay",
    "port",
    "restart_after_crash",
    "restore_command",
    "ssl",
    "synchronous_standby_names",
    "unix_socket_directories",
    "wal_receiver_create_temp_slot",
    "wal_receiver_status_interval",
)
"""Parameters that Headroom writes itself, because a replica depends on them."""
OWN_PREFIXES = ("archive_", "primary_", "promote_", "recovery_", "ssl_", "unix_socket_")
OWN_SUFFIXES = ("_file",)

_OWN = "^(" + "|".join([*OWN_PARAMETERS, *(f"{p}.*" for p in OWN_PREFIXES), *(f".*{s}" for s in OWN_SUFFIXES)]) + ")$"
_NAME = "^[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)?$"
_CONTROL = r"\x00-\x08\x0a-\x1f\x7f-\x9f"
"""Control characters except the tab, which is harmless in either file."""
_VALUE = f"^[^{_CONTROL}]*$"
_OFF = "(?i)^(off?|false|fals|fal|fa|f|no?|0)$"
# The server joins a line that ends with a backslash to the next one, even with a carriage return after the backslash.
_HBA = rf"^(local|host|hostssl|hostnossl|hostgssenc|hostnogssenc) [^@{_CONTROL}]*[^@{_CONTROL}\\]$"
HbaLine = Annotated[str, Field(min_length=1, max_length=512)]


class PostgresSettings(SpecModel):
    """Settings of the replicas' servers."""

    parameters: Annotated[dict[str, Annotated[str, Field(max_length=1024)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Server parameters, such as {work_mem: 32MB}. Headroom raises those that must not be below the primary's."""
    hba: Annotated[tuple[HbaLine, ...], Field(max_length=64)] = ()
    """Lines of pg_hba.conf, in order: they let in clients, and all others are refused. Empty: every role with a SCRAM
    password may connect with TLS. Superusers, and roles that may act as one, are always refused over the network."""
    hot_standby_feedback: bool = True
    """Whether replicas delay vacuum on the primary for their queries. Off: long queries may be cancelled."""

    @rule(
        f"!has(self.parameters) || !self.parameters.exists(k, k.matches({cel_text(_OWN)}))",
        "Headroom sets recovery, archiving, listening, TLS and file parameters itself: remove them",
        field=".parameters",
    )
    def _leaves_our_parameters_alone(self) -> bool:
        return not any(re.fullmatch(_OWN, name) for name in self.parameters)

    @rule(
        f"!has(self.parameters) || self.parameters.all(k, size(k) <= 63 && k.matches({cel_text(_NAME)}))",
        "write parameter names as PostgreSQL does: lower case, such as work_mem or pg_stat_statements.max",
        field=".parameters",
    )
    def _parameters_have_names(self) -> bool:
        return all(len(name) <= 63 and re.fullmatch(_NAME, name) for name in self.parameters)

    @rule(
        f"!has(self.parameters) || self.parameters.all(k, self.parameters[k].matches({cel_text(_VALUE)}))",
        "write each value on one line: remove line ends and other control characters",
        field=".parameters",
    )
    def _parameters_have_one_line_each(self) -> bool:
        return all(re.fullmatch(_VALUE, value) for value in self.parameters.values())

    @rule(
        "!has(self.parameters) || !('log_hostname' in self.parameters)"
        f" || self.parameters['log_hostname'].matches({cel_text(_OFF)})",
        "log_hostname makes each new connection wait for a name server: remove it",
        field=".parameters",
    )
    def _connects_without_a_name_server(self) -> bool:
        return re.fullmatch(_OFF, self.parameters.get("log_hostname", "off")) is not None

    @rule(
        f"!has(self.hba) || self.hba.all(l, l.matches({cel_text(_HBA)}))",
        "write one pg_hba.conf rule per entry, beginning with its type, such as: host all app 10.0.0.0/8 scram-sha-256",
        field=".hba",
    )
    def _hba_has_one_rule_per_line(self) -> bool:
        return all(re.fullmatch(_HBA, line) for line in self.hba)
