"""Why a container ended, from the end of what it said."""

import re

_SEED_REFUSAL = re.compile(r"seed: (?!copy \d)")
"""What the seed step says of itself when it gives up, unlike the count of its tries."""
_TELLING = (
    re.compile(r"(LOG|FATAL): .*((value|range) for|unrecognized configuration|requires a \w+ value)"),
    re.compile(r"PANIC: "),
    # Clients who come too early, sessions that are ended and tries to reach the primary end with a FATAL of their own,
    # which a copy's tool repeats.
    re.compile(r"FATAL: (?! *(the database system is|terminating|could not connect to the primary) )|: FATAL: "),
)
"""Lines that name a cause, the best first: a parameter, then whatever else a server or a copy cannot go on with."""
_LOG_PREFIX = re.compile(r"^\S+ \S+ \S+ \[\d+\] (LOG: +)?")
"""Time, process and level, as PostgreSQL writes them unless told otherwise."""
_LONGEST = 300


def find_cause(text: str) -> str:
    """The line that tells most: a server names the parameter it cannot take first, and sums up in its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it gave no reason"
    if _SEED_REFUSAL.match(lines[-1]):
        return lines[-1][:_LONGEST]
    telling = (line for words in _TELLING for line in lines if words.search(line))
    return _LOG_PREFIX.sub("", next(telling, lines[-1]))[:_LONGEST]
