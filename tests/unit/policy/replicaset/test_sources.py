"""Which server a new member is copied from, in words that say why."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.api.v1alpha1.provisioning import Source
from headroom.model.conditions import Finding
from headroom.model.copies import CopySource
from headroom.model.database import Lsn
from headroom.model.replica import ContainerFacts, Role
from headroom.policy.replicaset.members import Member
from headroom.policy.replicaset.replay_lag import NotEligible, ReplayLag
from headroom.policy.replicaset.sources import ABOVE_HEALTHY, NewCopy, SourceRules, choose_copy_source
from headroom.reasons import Reason
from tests.unit.policy.replicaset.make import BEYOND, BOUNDS, judge, make_claim, make_member, make_probe

RULES = SourceRules(Source.AUTO, BOUNDS)
SERVING, STANDBY, NEW = Role.SERVING, Role.STANDBY, Role.PROVISIONING


def have(role: Role = STANDBY, ordinal: int = 0, *, pod: dict[str, Any] | None = None, **changes: Any) -> Member:
    """A member of this version that can be copied from, unless told."""
    member = make_member(role, ordinal, **changes)
    assert member.pod is not None
    known = {"copy_source": "primary", "has_tls": True, "authority": f"PEM {ordinal}", **(pod or {})}
    return replace(member, pod=replace(member.pod, **known))


def copying(ordinal: int, source: str) -> Member:
    seed = ContainerFacts(is_running=True)
    return have(NEW, ordinal, pod={"copy_source": source, "seed": seed, "is_ready": False}, lag=None, within=0)


def choose(*members: Member, new: NewCopy | None = None, **rules: Any) -> CopySource | Finding:
    return choose_copy_source(new or NewCopy(), judge(*members), replace(RULES, **rules))


def name_of(found: CopySource | Finding) -> str:
    return found.name if isinstance(found, CopySource) else str(found.reason)


def test_a_warm_standby_comes_first_then_one_that_serves_beside_another_then_the_primary() -> None:
    serving = [have(SERVING, 0), have(SERVING, 1)]
    assert name_of(choose(*serving, have(STANDBY, 2))) == "store-2-a"
    assert name_of(choose(*serving)) == "store-0-a"
    assert name_of(choose(serving[0])) == "primary"
    assert name_of(choose()) == "primary"


def test_the_standby_that_lags_least_is_taken() -> None:
    near, far = have(STANDBY, 1, lag=ReplayLag(0.1, 0)), have(STANDBY, 0, lag=ReplayLag(1.0, 0))
    assert name_of(choose(far, near)) == "store-1-a"


def test_a_source_is_reached_by_its_own_authority_or_by_the_given_one() -> None:
    own = choose(have())
    assert isinstance(own, CopySource)
    assert (own.address, own.tls_mode, own.ca_pem) == ("10.0.0.1", "verify-full", "PEM 0")
    assert own.why == "it is a warm standby: the primary is spared"
    given = choose(have(pod={"authority": ""}), given_authority="GIVEN")
    assert isinstance(given, CopySource)
    assert (given.tls_mode, given.ca_pem) == ("verify-ca", "GIVEN")
    plain = choose(have(pod={"authority": "", "has_tls": False}), allows_plaintext=True, given_authority="GIVEN")
    assert isinstance(plain, CopySource)
    assert (plain.tls_mode, plain.ca_pem) == ("disable", "")


FULL = make_probe(sessions=95, max_connections=100, replay_lsn=Lsn(1))
UNFIT: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("pod not ready", {"pod": {"is_ready": False}}, {}, "does not answer"),
    ("pod being deleted", {"pod": {"is_deleting": True}}, {}, "on its way out"),
    ("pod ended", {"pod": {"phase": "Failed"}}, {}, "on its way out"),
    ("going", {"claim": make_claim(retire=Reason.RETIRED)}, {}, "on its way out"),
    ("silent", {"unanswered": 1}, {}, "does not answer"),
    ("not asked", {"lag": None}, {}, "not near enough"),
    ("beyond the bound", {"lag": BEYOND}, {}, "not near enough"),
    ("without a stream", {"lag": NotEligible(Reason.NOT_STREAMING, "no walreceiver")}, {}, "no walreceiver"),
    ("promoted", {"lag": NotEligible(Reason.MEMBER_PROMOTED, "")}, {}, "on its way out"),
    ("of an earlier version", {"pod": {"copy_source": ""}}, {}, "before this version"),
    ("without TLS", {"pod": {"has_tls": False, "authority": ""}}, {}, "spec.tls.allowPlaintext is false"),
    ("not verified", {"pod": {"authority": ""}}, {}, "add ca.crt"),
    ("too many authorities", {"pod": {"authority": ""}}, {"given_authority": "x" * 70_000}, "too many"),
    ("failed before", {}, {"new": NewCopy(failed=frozenset({"store-0-a"}))}, "the copy failed"),
    ("short of the slot", {}, {"new": NewCopy(Lsn(2))}, "where the new slot begins"),
]


@pytest.mark.parametrize(("changes", "rules", "why"), [case[1:] for case in UNFIT], ids=[case[0] for case in UNFIT])
def test_a_standby_that_is_not_fit_is_passed_over_and_named(
    changes: dict[str, Any], rules: dict[str, Any], why: str
) -> None:
    chosen = choose(have(**changes), **rules)
    assert isinstance(chosen, CopySource)
    assert chosen.name == "primary"
    is_going = changes.get("claim") is not None
    assert is_going or why in chosen.why
    waits = choose(have(**changes), source=Source.STANDBY, **rules)
    assert isinstance(waits, Finding), "and with source Standby nothing is copied from the primary"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"probe": FULL}, "95 of 100 connections"),
        ({"is_full": True}, "100 of 100 connections"),
        ({"lag": BEYOND}, "not near enough"),
    ],
)
def test_one_that_serves_and_cannot_bear_it_is_passed_over(changes: dict[str, Any], why: str) -> None:
    chosen = choose(have(SERVING, 0, **changes), have(SERVING, 1, probe=FULL))
    assert isinstance(chosen, CopySource)
    assert chosen.name == "primary"
    assert why in chosen.why


def test_the_only_one_that_serves_is_left_alone() -> None:
    chosen = choose(have(SERVING, 0), have(SERVING, 1, lag=BEYOND))
    assert isinstance(chosen, CopySource)
    assert chosen.name == "primary"
    assert "store-0-a is the only one that serves" in chosen.why


def test_a_draining_or_new_member_is_no_source() -> None:
    assert name_of(choose(have(Role.DRAINING, 0), copying(1, "primary"))) == "primary"


def test_a_source_serves_no_more_copies_than_are_made_at_once() -> None:
    one = have(STANDBY, 0)
    assert name_of(choose(one, copying(1, "store-0-a"))) == "primary"
    assert name_of(choose(one, copying(1, "store-0-a"), max_concurrent=2)) == "store-0-a"
    begun = choose_copy_source(NewCopy(), judge(one), RULES, chosen=["store-0-a"])
    assert name_of(begun) == "primary", "also those of the same pass"


@pytest.mark.parametrize("state", ABOVE_HEALTHY)
def test_while_the_guard_is_above_healthy_only_a_copy_from_the_primary_waits(state: str) -> None:
    assert name_of(choose(have(), guard_state=state)) == "store-0-a"
    for rules in ({}, {"source": Source.PRIMARY}):
        waits = choose(guard_state=state, **rules)
        assert isinstance(waits, Finding)
        assert waits.reason is Reason.COPY_WAITS
        assert state in waits.message


def test_the_spec_may_ask_for_the_primary() -> None:
    chosen = choose(have(), source=Source.PRIMARY)
    assert chosen == CopySource("primary", "provisioning.source is Primary")


def test_without_a_fit_standby_one_that_is_asked_for_is_waited_for_with_the_remedy() -> None:
    first = choose(source=Source.STANDBY)
    assert isinstance(first, Finding)
    assert (first.reason, "Auto" in first.message) == (Reason.NO_COPY_SOURCE, True)
    later = choose(have(lag=BEYOND), source=Source.STANDBY)
    assert isinstance(later, Finding)
    assert (later.reason, "store-0-a is not near enough" in later.message) == (Reason.COPY_WAITS, True)
    assert "Auto" in later.message
    assert name_of(choose(have(), source=Source.STANDBY)) == "store-0-a"


def test_two_sources_that_failed_are_enough() -> None:
    """The third may fail for the same cause: the primary is asked, or the attempt has failed."""
    new = NewCopy(failed=frozenset({"store-0-a", "store-1-a"}))
    assert name_of(choose(have(STANDBY, 2), new=new)) == "primary"
    failed = choose(have(STANDBY, 2), new=new, source=Source.STANDBY)
    assert isinstance(failed, Finding)
    assert failed.reason is Reason.SEED_FAILED


@pytest.mark.parametrize(("seconds", "want"), [(5.0, "CopyWaits"), (90.0, "store-0-a"), (None, "store-0-a")])
def test_no_copy_begins_in_a_failover_and_one_that_never_follows_holds_none_up(
    seconds: float | None, want: str
) -> None:
    behind = have(STANDBY, 1, behind_seconds=seconds, lag=NotEligible(Reason.NOT_STREAMING, ""))
    assert name_of(choose(have(STANDBY, 0), behind)) == want
    diverged = replace(behind, divergence=Finding(Reason.TIMELINE_DIVERGED, "it diverged"))
    assert name_of(choose(have(STANDBY, 0), diverged)) == "store-0-a"
