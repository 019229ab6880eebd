"""What is compared of a member's image, and that one which reads the data in another way never serves."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from headroom.model.conditions import Finding
from headroom.model.libraries import CollationFacts, DatabaseLibraries, ServerLibraries, parse_preloads
from headroom.model.replica import ContainerFacts, Role, Stage
from headroom.policy.replicaset.libraries import (
    LibraryFault,
    compare_libraries,
    describe_notes,
    find_fault,
    observe_faults,
)
from headroom.policy.replicaset.members import EvaluatedMember, Member
from headroom.policy.replicaset.plan import Plan, decide_plan
from headroom.policy.replicaset.stages import decide_stage
from headroom.policy.replicaset.termination_cause import describe_end
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import (
    LIBRARIES,
    NOW,
    context,
    judge,
    make_facts,
    make_found,
    make_member,
    make_probe,
    make_targets,
)

MEMBER = replace(LIBRARIES, server_name="store-0-a")
FAULT = Finding(Reason.EXTENSION_MISSING, "extension postgis is not there")
PENDING = Finding(Reason.IN_PROGRESS, "they are being compared")


def with_collation(actual: str | None, name: str = "default", **changes: Any) -> ServerLibraries:
    """The libraries of a member whose library sorts as this version of it."""
    databases = tuple(
        replace(database, collations=tuple(_set(each, name, actual) for each in database.collations), **changes)
        for database in MEMBER.databases
    )
    return replace(MEMBER, databases=databases)


def _set(collation: CollationFacts, name: str, actual: str | None) -> CollationFacts:
    return replace(collation, actual=actual) if collation.name == name else collation


def offering(*available: tuple[str, str]) -> ServerLibraries:
    return replace(MEMBER, available=frozenset({("plpgsql", "1.0"), *available}))


def compare(member: ServerLibraries, ignored: Sequence[str] = (), primary: ServerLibraries = LIBRARIES) -> str:
    """Reason and message, empty if there is nothing."""
    finding = compare_libraries(primary, member, ignored)
    return "" if finding is None else f"{finding.reason}: {finding.message}"


def test_the_same_image_suits() -> None:
    assert compare(MEMBER) == ""


@pytest.mark.parametrize("version", ["2.31", "2.37", None])
def test_another_c_library_is_named_with_the_database_and_the_remedy(version: str | None) -> None:
    found = compare(with_collation(version))
    assert found.startswith(
        f"{Reason.COLLATION_MISMATCH}: the default collation of database store has glibc version 2.36"
    )
    assert "database stock" in found
    assert (f"glibc version {version}" if version else "no version") in found
    assert "set spec.image to one with the primary's version" in found


def test_another_icu_is_found_in_a_collation_that_an_index_uses() -> None:
    found = compare(with_collation("153.128", "public.german"))
    assert found.startswith(
        f"{Reason.COLLATION_MISMATCH}: collation public.german of database store has ICU version 153.120"
    )


def test_versions_that_are_not_known_on_either_side_say_nothing() -> None:
    bare = CollationFacts("default", "c", None, None)
    primary = replace(LIBRARIES, databases=(DatabaseLibraries("store", (bare,)),))
    assert compare(replace(primary, server_name="store-0-a"), primary=primary) == ""


def test_what_only_one_side_has_yet_is_compared_later() -> None:
    assert compare(replace(MEMBER, databases=MEMBER.databases[1:])) == ""
    assert compare(replace(MEMBER, databases=(*MEMBER.databases, DatabaseLibraries("new", ())))) == ""


def test_a_missing_extension_is_named_with_its_database_and_both_remedies() -> None:
    found = compare(offering())
    assert found.startswith(f"{Reason.EXTENSION_MISSING}: extension postgis 3.4.0 of database store is not in")
    assert "spec.image" in found
    assert "readiness.ignoreLibraries" in found


def test_another_version_of_an_extension_does_not_do() -> None:
    assert "postgis 3.4.0 of database store: the member's image has only 3.5.0" in compare(
        offering(("postgis", "3.5.0"))
    )
    assert compare(offering(("postgis", "3.5.0"), ("postgis", "3.4.0"))) == ""


def test_a_version_that_the_primary_does_not_offer_either_is_not_asked_of_a_member() -> None:
    upgraded = replace(LIBRARIES, available=frozenset({("plpgsql", "1.0"), ("postgis", "3.5.0")}))
    assert compare(offering(("postgis", "3.5.0")), primary=upgraded) == ""
    assert compare(offering(), primary=upgraded).startswith(Reason.EXTENSION_MISSING)
    removed = replace(LIBRARIES, available=frozenset({("plpgsql", "1.0")}))
    assert compare(offering(), primary=removed) == "", "reads on the primary fail as well"


@pytest.mark.parametrize("setting", ["pg_stat_statements", "$libdir/pg_stat_statements.so", '"pg_stat_statements" '])
def test_a_library_that_is_not_preloaded_is_named_however_the_list_is_written(setting: str) -> None:
    found = compare(replace(MEMBER, preloaded=setting))
    assert found.startswith(f"{Reason.LIBRARY_NOT_PRELOADED}: the primary preloads pg_cron, and the member does not")
    assert "pg_stat_statements," not in found
    assert compare(replace(MEMBER, preloaded=f"{setting}, pg_cron")) == ""


def test_a_list_that_may_not_be_read_is_not_compared() -> None:
    assert compare(replace(MEMBER, preloaded=None)) == ""
    assert compare(MEMBER, primary=replace(LIBRARIES, preloaded=None)) == ""


def test_named_libraries_are_waived_and_collations_never() -> None:
    assert compare(replace(offering(), preloaded="pg_stat_statements"), ["postgis", "pg_cron"]) == ""
    assert compare(replace(offering(), preloaded=""), ["pg_cron", "pg_stat_statements"]).startswith("ExtensionMissing")
    assert compare(with_collation("2.31"), ["default", "glibc", "store"]) != ""


def test_what_does_most_harm_comes_first_and_long_lists_are_counted() -> None:
    worst = replace(with_collation("2.31"), available=frozenset(), preloaded="")
    assert compare(worst).startswith(Reason.COLLATION_MISMATCH)
    many = tuple((f"ext{number}", "1") for number in range(8))
    primary = replace(LIBRARIES, available=frozenset(many), databases=(DatabaseLibraries("store", (), many),))
    found = compare(replace(primary, server_name="store-0-a", available=frozenset()), primary=primary)
    assert "; and 5 more:" in found


def test_a_database_that_only_the_member_refuses_is_no_proof() -> None:
    closed = replace(MEMBER.databases[0], unread='could not access file "hook"', extensions=())
    found = compare(replace(MEMBER, databases=(closed, MEMBER.databases[1])))
    assert found.startswith(f"{Reason.LIBRARIES_UNKNOWN}: database store of store-0-a cannot be read: could not access")
    primary = replace(LIBRARIES, databases=(closed, MEMBER.databases[1]))
    assert compare(replace(MEMBER, databases=(closed, MEMBER.databases[1])), primary=primary) == ""


def test_databases_that_cannot_be_compared_are_noted() -> None:
    closed = replace(LIBRARIES.databases[1], unread="permission denied; run: GRANT CONNECT", extensions=())
    notes = describe_notes(replace(LIBRARIES, databases=(LIBRARIES.databases[0], closed)))
    assert notes == "the extensions of database stock are not compared: permission denied; run: GRANT CONNECT"
    assert describe_notes(None) == describe_notes(FAULT) == describe_notes(LIBRARIES) == ""
    assert "lacks pg_monitor" in describe_notes(replace(LIBRARIES, preloaded=None))


def test_an_upgrade_that_primary_and_member_share_is_a_warning_only() -> None:
    moved = with_collation("2.41")
    assert compare(moved, primary=moved) == ""
    notes = describe_notes(moved)
    assert 'REINDEX DATABASE "store"; ALTER DATABASE "store" REFRESH COLLATION VERSION' in notes
    assert "glibc 2.36, while the primary has 2.41" in notes
    icu = with_collation("153.128", "public.german")
    assert "ALTER COLLATION public.german REFRESH VERSION" in describe_notes(icu)


def test_entries_of_a_list_of_preloads() -> None:
    assert list(parse_preloads(" pg_cron, '$libdir/a.so' ,,\"b c\"")) == [
        ("pg_cron", "pg_cron"), ("$libdir/a.so", "a"), ("b c", "b c")
    ]  # fmt: skip


def observe(before: dict[str, LibraryFault], **changes: Any) -> dict[str, LibraryFault]:
    return observe_faults(before, make_facts(make_found(**changes)), ())


def test_a_fault_holds_until_another_comparison_of_the_same_pod() -> None:
    faults = observe({}, libraries=offering())
    assert faults["store-0-a"].finding.reason is Reason.EXTENSION_MISSING
    assert observe(faults, libraries=None) == faults
    assert observe(faults, libraries=Finding(Reason.PRIMARY_TIMEOUT, "late")) == faults
    assert observe(faults) == {}
    recreated = replace(faults["store-0-a"], pod_uid="another")
    assert observe({"store-0-a": recreated}, libraries=None) == {}
    inherited = {"store-0-a": LibraryFault(None, FAULT)}
    assert observe(inherited, libraries=None) == inherited
    assert observe(inherited) == {}
    assert observe(faults, pod=None) == {}


def test_a_member_is_not_cleared_before_both_sides_have_answered() -> None:
    silent = make_found(libraries=None)
    for facts in (make_facts(silent), make_facts(make_found(), libraries=None)):
        fault = find_fault(facts.members[0], facts, {})
        assert fault is not None
        assert fault.reason is Reason.IN_PROGRESS
    late = Finding(Reason.PRIMARY_TIMEOUT, "no answer")
    facts = make_facts(make_found(libraries=late))
    fault = find_fault(facts.members[0], facts, {})
    assert fault is not None
    assert fault.reason is Reason.LIBRARIES_UNKNOWN
    assert "store-0-a cannot be read" in fault.message
    assert find_fault(make_found(), make_facts(make_found()), {}) is None
    assert find_fault(make_found(), make_facts(), {"store-0-a": LibraryFault(None, FAULT)}) == FAULT


@pytest.mark.parametrize(
    ("role", "fault", "stage", "reason"),
    [
        (Role.PROVISIONING, FAULT, Stage.CAUGHT_UP, FAULT.reason),
        (Role.PROVISIONING, PENDING, Stage.CAUGHT_UP, Reason.IN_PROGRESS),
        (Role.STANDBY, FAULT, Stage.CAUGHT_UP, FAULT.reason),
        (Role.STANDBY, PENDING, Stage.STANDBY, Reason.AS_EXPECTED),
        (Role.SERVING, FAULT, Stage.SERVING, FAULT.reason),
        (Role.SERVING, PENDING, Stage.SERVING, Reason.AS_EXPECTED),
    ],
)
def test_a_new_member_waits_and_one_in_use_leaves_only_for_what_was_found(
    role: Role, fault: Finding, stage: Stage, reason: Reason
) -> None:
    verdict = decide_stage(make_member(role, library_fault=fault), context())
    assert (verdict.stage, verdict.reason) == (stage, reason)
    assert not verdict.is_failed, "another copy would start from the same image"


def plan_of(*members: Member, **targets: Any) -> Plan:
    return decide_plan(judge(*members), make_targets(**targets), NOW)


def unfit(role: Role, ordinal: int = 0, **changes: Any) -> Member:
    return make_member(role, ordinal, library_fault=FAULT, **changes)


def drifted(member: Member) -> Member:
    assert member.pod is not None
    return replace(member, pod=replace(member.pod, template="old"))


def test_it_is_neither_accepted_nor_put_into_the_service_nor_taken_back() -> None:
    new = unfit(Role.PROVISIONING)
    assert plan_of(new, standbys=0).accept == ()
    for role in (Role.STANDBY, Role.DRAINING):
        plan = plan_of(unfit(role), standbys=0)
        assert (plan.activate, plan.needed) == ((), 1)


def test_one_that_serves_leaves_once_another_has_its_place() -> None:
    old, standby = unfit(Role.SERVING), make_member(Role.STANDBY, 1)
    first = plan_of(old, standby)
    assert (first.activate, first.needed, first.eject) == (("store-1-a",), 1, ())
    second = plan_of(old, make_member(Role.SERVING, 1))
    assert [(entry.name, entry.reason) for entry in second.eject] == [("store-0-a", FAULT.reason)]


def test_the_last_one_stays_and_so_do_those_whose_load_nobody_can_carry() -> None:
    alone = plan_of(unfit(Role.SERVING), unfit(Role.STANDBY, 1))
    assert alone.eject == alone.activate == alone.retire == ()
    assert (alone.good, alone.reserve) == (0, 0)
    busy = make_probe(sessions=95)
    crowded = [unfit(Role.SERVING, 0, probe=busy), make_member(Role.SERVING, 1, probe=busy)]
    assert plan_of(*crowded, desired=2, standbys=0).eject == ()
    calm = [unfit(Role.SERVING), make_member(Role.SERVING, 1)]
    assert len(plan_of(*calm, desired=2, standbys=0).eject) == 1


def test_no_copy_is_given_up_for_another_of_the_same_image() -> None:
    plan = plan_of(unfit(Role.SERVING), unfit(Role.PROVISIONING, 1), unfit(Role.STANDBY, 2), desired=2)
    assert (plan.retire, plan.recreate, plan.reserve) == ((), (), 0)


def test_those_that_wait_are_recreated_at_once_with_a_corrected_image() -> None:
    plan = plan_of(unfit(Role.SERVING), *(drifted(unfit(role, n + 1)) for n, role in enumerate([Role.STANDBY] * 2)))
    assert set(plan.recreate) == {"store-1-a", "store-2-a"}
    assert plan_of(make_member(Role.SERVING), drifted(unfit(Role.PROVISIONING, 1))).recreate == ("store-1-a",)


def test_without_standbys_a_corrected_image_gets_a_successor() -> None:
    old = drifted(unfit(Role.SERVING))
    assert plan_of(old, standbys=0).reserve == 1
    assert plan_of(unfit(Role.SERVING), standbys=0).reserve == 0
    assert plan_of(old, make_member(Role.PROVISIONING, 1, within=0), standbys=0).reserve == 0
    pair = plan_of(
        drifted(unfit(Role.SERVING, probe=make_probe(sessions=190))),
        make_member(Role.SERVING, 1),
        desired=2,
        standbys=0,
    )
    assert (pair.reserve, pair.eject) == (1, ())


def test_a_server_that_cannot_load_a_library_names_the_remedy() -> None:
    log = '2026-03-01 12:00:00 UTC [1] FATAL:  could not access file "pg_cron": No such file or directory'
    found = describe_end(ContainerFacts(message=log, exit_code=1))
    assert 'could not access file "pg_cron"' in found
    assert "readiness.ignoreLibraries" in found


def test_what_it_lacks_stands_in_its_verdict_while_it_serves() -> None:
    [evaluated] = judge(unfit(Role.SERVING))
    assert isinstance(evaluated, EvaluatedMember)
    assert evaluated.verdict.message == f"{FAULT.message}; it serves until another can take its place"
