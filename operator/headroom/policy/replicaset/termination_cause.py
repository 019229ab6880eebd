"""Why a container ended, according to Kubernetes and the end of its log.

A server's log also has what its clients did. Only sentences of the server about itself are reported: a client's line is
not a cause, and a statement may hold data.
"""

import re

from headroom.model.replica import ContainerFacts

KILLED = 137
"""128 + SIGKILL."""
_LONGEST = 300

_LINE = re.compile(r"\S.*?\b(LOG|ERROR|FATAL|PANIC|WARNING|HINT|DETAIL|CONTEXT|STATEMENT|NOTICE|INFO|DEBUG\d?): +(.*)")
"""A line of a server's log: its level is the first one named, and the text of a statement comes after it; a line that
begins with a space continues another."""
_CONFIGURATION = re.compile(
    r"invalid value for parameter "
    r"|unrecognized configuration parameter "
    r'|parameter "[^"]+" requires '
    r"|[-\d.]+( \w+)? is outside the valid range for parameter "
    r"|invalid (authentication method|connection type|IP address|IP mask|CIDR mask|regular expression)"
    r"|end-of-line before "
    r"|unrecognized authentication option name"
)
"""What a server rejects in its files: it names that first and sums up in its last line."""
_OF_CLIENTS = re.compile(
    r"the database system is |terminating |could not connect to the primary |could not receive data from WAL "
    r"|\w+ authentication failed|no pg_hba.conf entry|pg_hba.conf rejects"
    r"|sorry, too many clients|remaining connection slots|role |user |database |permission denied for database"
    r"|canceling authentication|connection |unsupported frontend|invalid startup packet|unrecognized configuration"
)
"""How sessions end, and how attempts to reach the primary fail, while the server continues."""
_MISSING_LIBRARY = re.compile(r'could not access file "')
_SEED_REFUSAL = re.compile(r"seed: (?!copy \d)")
"""What the seed step reports when it gives up, unlike the count of its tries."""
_START_REFUSAL = re.compile(r"start: (.*)")
"""What start.sh reports when it starts no server: it is the last to write."""
_COPY_FAILURE = re.compile(r": (?:FATAL|ERROR): +(?!the database system is |terminating )")


def describe_end(server: ContainerFacts) -> str:
    """Why a server's container ended, as far as it is known."""
    if server.ended_by == "OOMKilled":
        return "it ran out of memory and was killed (OOMKilled): raise resources.limits.memory"
    if server.exit_code == KILLED:
        return "it was killed from outside (SIGKILL)"
    cause = _find_server_cause(server.message)
    library = _MISSING_LIBRARY.match(cause)
    if library:
        remedy = "set spec.image to one that has it, or, if no read on the replicas needs it, name it in"
        return f"{cause}; the image lacks this library: {remedy} readiness.ignoreLibraries"
    return cause or f"exit status {server.exit_code}, read its log for the cause"


def find_copy_cause(text: str) -> str:
    """Why the seed step ended: what it refuses, or the first error of its copy."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it gave no reason"
    if _SEED_REFUSAL.match(lines[-1]):
        return lines[-1][:_LONGEST]
    return next((line for line in lines if _COPY_FAILURE.search(line)), lines[-1])[:_LONGEST]


def _find_server_cause(text: str) -> str:
    """What start.sh refused, a setting, else the last line that ended it; empty if there is none of them."""
    last = text.rstrip().rpartition("\n")[2]
    if refusal := _START_REFUSAL.match(last):
        return refusal[1][:_LONGEST]
    found = [(line[1], line[2]) for line in map(_LINE.match, text.splitlines()) if line]
    for level, message in found:
        if level == "LOG" and _CONFIGURATION.match(message):
            return message[:_LONGEST]
    for fatal in ("PANIC", "FATAL"):
        ends = [message for level, message in found if level == fatal and not _OF_CLIENTS.match(message)]
        if ends:
            return ends[-1][:_LONGEST]
    return ""
