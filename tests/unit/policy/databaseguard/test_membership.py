"""Which guards share an observation, who makes it, and whose pools share a budget: from the set of members alone."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.policy.databaseguard.identity import ServerId
from headroom.policy.databaseguard.limits import ConnectionLimits
from headroom.policy.databaseguard.membership import Membership, find_budget_group, find_group, rank_measurers
from tests.unit.policy.databaseguard.make import NOON, SYSTEM
from tests.unit.policy.purity import find_impure

SERVER = ServerId(SYSTEM, NOON, "10.0.0.7:5432")
ALIAS = replace(SERVER, address="10.0.0.8:5432")
CLONE = replace(SERVER, address="10.0.0.9:5432", started_at=NOON + timedelta(1))
RESTARTED = replace(SERVER, started_at=NOON + timedelta(1))
UNPLACED = ServerId(SYSTEM, None, "")


def member(name: str, age: int = 0, namespace: str = "shop", **changes: Any) -> Membership:
    """The younger the higher `age`; well equipped."""
    created_at = f"2026-01-{1 + age:02}T00:00:00Z"
    made = Membership((namespace, name), f"uid-{name}", created_at, SERVER, ConnectionLimits(60, 5), 1.0, True)
    return replace(made, **changes)


def names(members: tuple[Membership, ...]) -> list[str]:
    return [found.guard[1] for found in members]


def test_a_membership_is_a_value() -> None:
    assert find_impure(Membership) == []


class TestGroup:
    @pytest.mark.parametrize("order", list(permutations(range(3))))
    def test_guards_of_a_namespace_stay_together_whatever_the_order(self, order: tuple[int, ...]) -> None:
        """A foreign guard reached the address of one of them; the other one came by an alias."""
        known = [member("a"), member("b", 1, server=ALIAS), member("x", 2, namespace="other")]
        members = [known[number] for number in order]
        assert names(find_group(known[0], members)) == ["a", "b"]
        assert names(find_group(known[1], members)) == ["a", "b"]
        assert names(find_group(known[2], members)) == ["x"]

    def test_namespaces_share_at_one_address_only(self) -> None:
        one, foreign = member("a"), member("x", 1, namespace="other")
        assert names(find_group(one, [foreign])) == ["a", "x"]
        assert names(find_group(one, [replace(foreign, server=ALIAS)])) == ["a"]

    def test_an_older_foreign_guard_parts_no_neighbours(self) -> None:
        foreign, one, alias = member("x", 0, namespace="other"), member("a", 1), member("b", 2, server=ALIAS)
        assert names(find_group(one, [foreign, alias])) == ["a", "b"]
        assert names(find_group(foreign, [alias, one])) == ["x"]

    @pytest.mark.parametrize("server", [CLONE, RESTARTED, replace(SERVER, system_identifier="9")])
    def test_another_server_is_another_group(self, server: ServerId) -> None:
        assert names(find_group(member("a"), [member("b", 1, server=server)])) == ["a"]

    def test_a_server_that_says_nothing_is_nobodys(self) -> None:
        silent = ServerId("", None, "")
        assert names(find_group(member("a", server=silent), [member("b", 1, server=silent)])) == ["a"]

    def test_its_own_earlier_membership_does_not_count(self) -> None:
        assert names(find_group(member("a"), [member("a", server=CLONE), member("b", 1)])) == ["a", "b"]


servers = st.sampled_from([SERVER, ALIAS, CLONE, RESTARTED, UNPLACED, ServerId("", None, "10.0.0.7:5432")])
members = st.lists(
    st.builds(
        lambda namespace, age, server, canary, sees: (namespace, age, server, canary, sees),
        st.sampled_from(["shop", "other", "third"]),
        st.integers(0, 5),
        servers,
        st.sampled_from([None, 0.2, 1.0]),
        st.booleans(),
    ),
    min_size=1,
    max_size=7,
).map(
    lambda rows: [
        member(str(number), age, namespace, server=server, canary_seconds=canary, sees_sessions=sees)
        for number, (namespace, age, server, canary, sees) in enumerate(rows)
    ]
)


@given(members, st.randoms())
def test_the_groups_are_a_partition_that_follows_from_the_set(found: list[Membership], random: Any) -> None:
    groups = {one.uid: find_group(one, found) for one in found}
    shuffled = list(found)
    random.shuffle(shuffled)
    for one in found:
        assert one in groups[one.uid]
        assert all(groups[other.uid] == groups[one.uid] for other in groups[one.uid])
        assert find_group(one, shuffled) == groups[one.uid]
        assert all(one.may_share(other) for other in groups[one.uid] if other != one)
        local = [other for other in found if other.namespace == one.namespace and other.may_share(one)]
        assert set(local) - {one} <= set(groups[one.uid])


@given(members)
def test_whoever_measures_for_a_guard_sees_all_that_it_would_see(found: list[Membership]) -> None:
    for one in found:
        ranked = rank_measurers(one, find_group(one, found))
        assert one in ranked
        for other in ranked:
            assert other.sees_sessions >= one.sees_sessions
            assert (other.canary_seconds is not None) >= (one.canary_seconds is not None)


class TestRank:
    def test_the_oldest_comes_first_and_at_one_second_the_uid_decides(self) -> None:
        group = (member("a", 1), member("b", 1), member("c"))
        assert names(rank_measurers(member("a", 1), group)) == ["c", "a", "b"]

    @pytest.mark.parametrize("lack", [{"sees_sessions": False}, {"canary_seconds": None}])
    def test_one_that_sees_less_comes_behind_a_younger_one_that_sees_all(self, lack: dict[str, Any]) -> None:
        weak, strong = member("weak", **lack), member("strong", 5)
        assert names(rank_measurers(weak, (weak, strong))) == ["strong", "weak"]
        assert names(rank_measurers(strong, (weak, strong))) == ["strong"], "it would be blind through the other"

    def test_two_that_see_different_things_measure_each_for_itself(self) -> None:
        timed, seeing = member("timed", sees_sessions=False), member("seeing", 1, canary_seconds=None)
        assert names(rank_measurers(timed, (timed, seeing))) == ["timed"]
        assert names(rank_measurers(seeing, (timed, seeing))) == ["seeing"]


class TestBudgetGroup:
    """Pools keep their connections while their guard cannot log in."""

    def test_limits_of_another_namespace_do_not_count(self) -> None:
        assert names(find_budget_group(member("a"), [member("x", namespace="other"), member("b", 1)])) == ["a", "b"]

    def test_a_guard_that_has_not_seen_the_restart_yet_is_known_by_the_address(self) -> None:
        assert names(find_budget_group(member("a", server=RESTARTED), [member("b", 1)])) == ["a", "b"]

    def test_one_that_no_process_of_today_has_seen_is_known_by_its_system(self) -> None:
        assert names(find_budget_group(member("a"), [member("b", 1, server=UNPLACED)])) == ["a", "b"]
        stranger = member("b", 1, server=ServerId("9", None, ""))
        assert names(find_budget_group(member("a"), [stranger])) == ["a"]

    def test_it_joins_no_two_servers(self) -> None:
        others = [member("b", 1, server=UNPLACED), member("c", 2, server=CLONE)]
        assert names(find_budget_group(member("a"), others)) == ["a", "b"]
        assert names(find_budget_group(others[1], [others[0], member("a")])) == ["b", "c"]

    def test_a_clone_has_a_budget_of_its_own(self) -> None:
        assert names(find_budget_group(member("a"), [member("b", 1, server=CLONE)])) == ["a"]

    def test_it_is_the_same_for_all_that_are_linked(self) -> None:
        """One came by an alias; a third one saw the server before its restart, at the address of the first."""
        known = [member("a"), member("b", 1, server=ALIAS), member("c", 2, server=replace(SERVER, started_at=None))]
        for one in known:
            assert names(find_budget_group(one, known)) == ["a", "b", "c"]

    def test_a_server_without_identity_has_no_group(self) -> None:
        silent = ServerId("", None, "10.0.0.7:5432")
        assert names(find_budget_group(member("a", server=silent), [member("b", 1, server=silent)])) == ["a"]


@given(members)
def test_the_guards_that_are_placed_agree_on_their_budget_group(found: list[Membership]) -> None:
    for one in found:
        group = find_budget_group(one, found)
        assert one in group
        assert {other.namespace for other in group} == {one.namespace}
        if one.server != UNPLACED:
            placed = [other for other in group if other.server != UNPLACED]
            assert all(find_budget_group(other, found) == group for other in placed)


def test_a_clone_that_was_not_seen_yet_shares_no_budget() -> None:
    """After a change of leader only its system is known, and a clone has that of its source."""
    store = member("store", endpoint="store-primary.shop.svc:5432")
    clone = member("clone", 1, server=UNPLACED, endpoint="restored.shop.svc:5432")
    second = member("second", 2, server=UNPLACED, endpoint=store.endpoint)
    assert names(find_budget_group(store, [store, clone, second])) == ["store", "second"]
