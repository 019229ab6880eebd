"""Whether a member's image reads the data as the primary's does: collations, extensions, preloaded libraries.

The data files are the primary's. If the C library or ICU of the member sorts in another order, its index scans miss
rows and give no error. If an extension or a preloaded library is missing, reads that need it fail.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from headroom.model.conditions import Finding
from headroom.model.libraries import (
    DEFAULT_COLLATION,
    PRELOAD_PARAMETER,
    PROVIDERS,
    CollationFacts,
    DatabaseLibraries,
    ServerLibraries,
    parse_preloads,
)
from headroom.policy.replicaset.facts import LibraryReading, MemberFacts, SetFacts
from headroom.policy.replicaset.members import LIBRARY_REASONS
from headroom.reasons import Reason

NAMED = 3
"""Faults that a message names one by one."""
_WAIVE = "or, if no read on the replicas needs it, name it in readiness.ignoreLibraries"
_REMEDIES = {
    Reason.COLLATION_MISMATCH: "reads would miss rows: set spec.image to one with the primary's version of it; "
    "REINDEX cannot correct a replica",
    Reason.EXTENSION_MISSING: f"set spec.image to one that has it, {_WAIVE}",
    Reason.LIBRARY_NOT_PRELOADED: f"add it to postgresql.parameters.{PRELOAD_PARAMETER}, {_WAIVE}",
}


@dataclass(frozen=True, slots=True)
class LibraryFault:
    """What the last comparison found against a member; `pod_uid` is None if an earlier process found it."""

    pod_uid: str | None
    finding: Finding


def observe_faults(
    before: Mapping[str, LibraryFault], facts: SetFacts, ignored: Collection[str]
) -> dict[str, LibraryFault]:
    """The faults after one pass, by name of the member; what was found holds until another comparison replaces it."""
    after = {}
    for member in facts.members:
        if member.pod is None:
            continue
        fault = _evaluate(before.get(member.name), member, member.pod.uid, facts.libraries, ignored)
        if fault is not None:
            after[member.name] = fault
    return after


def _evaluate(
    known: LibraryFault | None,
    member: MemberFacts,
    pod_uid: str,
    primary: LibraryReading,
    ignored: Collection[str],
) -> LibraryFault | None:
    if isinstance(primary, ServerLibraries) and isinstance(member.libraries, ServerLibraries):
        finding = compare_libraries(primary, member.libraries, ignored)
        return None if finding is None else LibraryFault(pod_uid, finding)
    return known if known is not None and known.pod_uid in (None, pod_uid) else None


def find_fault(member: MemberFacts, facts: SetFacts, faults: Mapping[str, LibraryFault]) -> Finding | None:
    """Why a member's libraries do not let it serve, one that is not compared yet included; None if they do."""
    fault = faults.get(member.name)
    if fault is not None:
        return fault.finding
    for whose, reading in (("the primary", facts.libraries), (member.name, member.libraries)):
        if isinstance(reading, Finding):
            message = f"the libraries of {whose} cannot be read, and are asked for again: {reading.message}"
            return Finding(Reason.LIBRARIES_UNKNOWN, message)
    if facts.libraries is None or member.libraries is None:
        return Finding(Reason.IN_PROGRESS, "its collations and extensions are being compared with the primary's")
    return None


def compare_libraries(primary: ServerLibraries, member: ServerLibraries, ignored: Collection[str]) -> Finding | None:
    """Why the member must not serve: what most harms first, and all of that kind in one message; None if nothing."""
    here = {database.name: database for database in member.databases}
    pairs = [(there, here[there.name]) for there in primary.databases if there.name in here]
    by_reason = {
        Reason.COLLATION_MISMATCH: [text for there, other in pairs for text in _compare_collations(there, other)],
        Reason.EXTENSION_MISSING: list(_find_missing_extensions(primary, member, ignored)),
        Reason.LIBRARY_NOT_PRELOADED: list(_find_missing_preloads(primary, member, ignored)),
    }
    for reason in LIBRARY_REASONS:
        if by_reason[reason]:
            return Finding(reason, f"{_join(by_reason[reason])}: {_REMEDIES[reason]}")
    unread = [other for there, other in pairs if other.unread and not there.unread]
    if unread:
        message = f"database {unread[0].name} of {member.server_name} cannot be read: {unread[0].unread}"
        return Finding(Reason.LIBRARIES_UNKNOWN, message)
    return None


def describe_notes(primary: LibraryReading) -> str:
    """What is not compared, and indexes that an upgrade of the primary itself left in an older order; may be empty."""
    if not isinstance(primary, ServerLibraries):
        return ""
    notes = [*_describe_unread(primary), *_describe_outdated(primary)]
    if primary.preloaded is None:
        notes.append(f"{PRELOAD_PARAMETER} is not compared: the monitor login lacks pg_monitor")
    return "; ".join(notes)


def _compare_collations(primary: DatabaseLibraries, member: DatabaseLibraries) -> Iterator[str]:
    here = {(each.name, each.provider): each for each in member.collations}
    for there in primary.collations:
        other = here.get((there.name, there.provider))
        if other is not None and other.actual != there.actual:
            yield (
                f"{_name_collation(there)} of database {primary.name} has {_name_version(there)} on the primary and "
                f"{_name_version(other)} in the member's image"
            )


def _find_missing_extensions(
    primary: ServerLibraries, member: ServerLibraries, ignored: Collection[str]
) -> Iterator[str]:
    """A version that the primary's own image does not list, as after pg_upgrade, cannot be asked of a member's."""
    offered = {name for name, _ in primary.available}
    names = {name for name, _ in member.available}
    for database in primary.databases:
        for name, version in database.extensions:
            if name in ignored or name not in offered:
                continue
            if name not in names:
                yield f"extension {name} {version} of database {database.name} is not in the member's image"
            elif (name, version) in primary.available and (name, version) not in member.available:
                has = ", ".join(sorted(known for other, known in member.available if other == name))
                yield f"extension {name} {version} of database {database.name}: the member's image has only {has}"


def _find_missing_preloads(
    primary: ServerLibraries, member: ServerLibraries, ignored: Collection[str]
) -> Iterator[str]:
    if primary.preloaded is None or member.preloaded is None:
        return
    here = {name for _, name in parse_preloads(member.preloaded)}
    for _, name in parse_preloads(primary.preloaded):
        if name not in here and name not in ignored:
            yield f"the primary preloads {name}, and the member does not"


def _describe_unread(primary: ServerLibraries) -> Iterator[str]:
    unread = [database for database in primary.databases if database.unread]
    if unread:
        names = _list([database.name for database in unread])
        noun = "database" if len(unread) == 1 else "databases"
        yield f"the extensions of {noun} {names} are not compared: {unread[0].unread}"


def _describe_outdated(primary: ServerLibraries) -> Iterator[str]:
    for database in primary.databases:
        for each in database.collations:
            if each.recorded is not None and each.actual is not None and each.recorded != each.actual:
                yield (
                    f"indexes of database {database.name} may be in the order of {PROVIDERS.get(each.provider, '')} "
                    f"{each.recorded}, while the primary has {each.actual} ({_name_collation(each)}): run on the "
                    f'primary: REINDEX DATABASE "{database.name}"; {_refresh(database.name, each)}'
                )
                break


def _refresh(database: str, collation: CollationFacts) -> str:
    if collation.name == DEFAULT_COLLATION:
        return f'ALTER DATABASE "{database}" REFRESH COLLATION VERSION'
    return f"ALTER COLLATION {collation.name} REFRESH VERSION"


def _name_collation(collation: CollationFacts) -> str:
    return "the default collation" if collation.name == DEFAULT_COLLATION else f"collation {collation.name}"


def _name_version(collation: CollationFacts) -> str:
    if collation.actual is None:
        return "no version (another C library than glibc, such as musl, or none)"
    return f"{PROVIDERS.get(collation.provider, collation.provider)} version {collation.actual}"


def _join(texts: list[str]) -> str:
    more = len(texts) - NAMED
    return "; ".join(texts[:NAMED]) + (f"; and {more} more" if more > 0 else "")


def _list(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
