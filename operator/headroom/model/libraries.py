"""What an image has beside PostgreSQL itself, and what databases need of it: collations, extensions, preloads.

A replica has the catalogs of its primary, but the C library, ICU and extensions of its own image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

DEFAULT_COLLATION = "default"
PRELOAD_PARAMETER = "shared_preload_libraries"
PROVIDERS = {"c": "glibc", "i": "ICU", "b": "PostgreSQL"}
"""Who sorts, by the letter in the catalog. Other C libraries than glibc give no version."""


@dataclass(frozen=True, slots=True)
class CollationFacts:
    """A collation and its versions: `recorded` in the catalog, which is the same on primary and replica, and `actual`
    of the library that sorts on this server. None: there is no version. `provider` is the catalog's letter.
    """

    name: str
    provider: str
    recorded: str | None
    actual: str | None


@dataclass(frozen=True, slots=True)
class DatabaseLibraries:
    """What one database needs: its default collation, the collations that an index, a constraint or a partition key
    depends on, and its extensions as (name, version).

    `unread`: why only the default collation could be read; empty if all was.
    """

    name: str
    collations: tuple[CollationFacts, ...]
    extensions: tuple[tuple[str, str], ...] = ()
    unread: str = ""


@dataclass(frozen=True, slots=True)
class ServerLibraries:
    """One reading of a server. `available` are the versions of extensions that its image can install, as (name,
    version); `preloaded` is `shared_preload_libraries`, None if the login may not read it. `server_name` is
    its `cluster_name`. Templates, and databases that allow no connections, are left out.
    """

    server_name: str
    preloaded: str | None
    available: frozenset[tuple[str, str]]
    databases: tuple[DatabaseLibraries, ...]


def parse_preloads(setting: str) -> Iterator[tuple[str, str]]:
    """Each entry of a list of libraries as written, with its plain name: without path, quotes and file suffix."""
    for entry in setting.split(","):
        text = entry.strip().strip("\"'").strip()
        if text:
            yield text, text.rsplit("/", 1)[-1].removesuffix(".so")
