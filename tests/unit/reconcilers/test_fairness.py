"""Queues and buckets that share by namespace."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.reconcilers.fairness import KEPT_ACCOUNTS, FairQueue, TokenBucket


def test_a_bucket_lets_a_burst_through_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=2.0, burst=3)
    assert [bucket.take(10.0) for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    assert bucket.find_wait(10.0) == 1.5
    assert bucket.take(12.0) == 0
    assert bucket.try_take(12.1)
    assert not bucket.try_take(12.2)
    assert bucket.try_take(12.6)
    assert bucket.is_full(100.0)


def serve(queue: FairQueue[int], cost: float = 1.0) -> str:
    found = queue.pop()
    assert found is not None
    queue.charge(found[0], cost)
    return found[0]


def test_a_namespace_that_comes_late_does_not_wait_behind_a_thousand() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(1000):
        queue.push("loud", number)
    assert [serve(queue) for _ in range(100)] == ["loud"] * 100
    queue.push("quiet", 0)
    assert serve(queue) == "quiet"


def test_an_idle_time_saves_nothing_up() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(1000):
        queue.push("busy", number)
        serve(queue)
    for number in range(100):
        queue.push("busy", number)
        queue.push("idle", number)
    assert Counter(serve(queue) for _ in range(100)) == {"busy": 50, "idle": 50}


def test_whose_items_cost_more_gets_fewer() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(400):
        queue.push("dear", number)
        queue.push("cheap", number)
    used: Counter[str] = Counter()
    for _ in range(200):
        found = queue.pop()
        assert found is not None
        cost = 4 if found[0] == "dear" else 1
        queue.charge(found[0], cost)
        used[found[0]] += cost
    assert used["dear"] == pytest.approx(used["cheap"], abs=4)


def test_the_items_of_a_namespace_keep_their_order_and_may_leave() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(4):
        queue.push("a", number)
    queue.remove("a", 2)
    queue.remove("b", 0)
    assert [queue.pop() for _ in range(4)] == [("a", 0), ("a", 1), ("a", 3), None]
    assert not queue


def test_a_namespace_that_may_have_nothing_now_is_passed_over() -> None:
    queue: FairQueue[int] = FairQueue()
    queue.push("full", 0)
    assert queue.pop(may_have=lambda namespace: namespace != "full") is None
    queue.push("free", 1)
    assert queue.pop(may_have=lambda namespace: namespace != "full") == ("free", 1)


def test_namespaces_that_are_gone_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(10 * KEPT_ACCOUNTS):
        queue.push(str(number), 0)
        serve(queue)
    assert len(queue._accounts) <= KEPT_ACCOUNTS + 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.1, 5.0)), min_size=20, max_size=200))
def test_while_two_wait_neither_gets_ahead_by_more_than_two_items(jobs: list[tuple[str, float]]) -> None:
    queue: FairQueue[float] = FairQueue()
    left = Counter(namespace for namespace, _ in jobs)
    for namespace, cost in jobs:
        queue.push(namespace, cost)
    used: Counter[str] = Counter()
    while all(left[name] for name in left):
        found = queue.pop()
        assert found is not None
        namespace, cost = found
        queue.charge(namespace, cost)
        used[namespace] += cost  # type: ignore[assignment]
        left[namespace] -= 1
        assert max(used[name] for name in left) - min(used[name] for name in left) <= 2 * 5.0
