from datetime import UTC, datetime

from headroom.model.condition_types import ConditionType
from headroom.model.conditions import MAX_MESSAGE, MOST_CONDITIONS, Condition, Truth, merge_conditions
from headroom.reasons import Reason

THEN, NOW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def ready(status: Truth, message: str = "") -> Condition:
    return Condition(ConditionType.READY, status, Reason.AS_EXPECTED, message)


def test_transition_time_moves_only_with_status() -> None:
    first = merge_conditions([], [ready(Truth.TRUE)], generation=1, now=THEN)
    same = merge_conditions(first, [ready(Truth.TRUE, "other words")], generation=2, now=NOW)
    turned = merge_conditions(same, [ready(Truth.FALSE)], generation=2, now=NOW)

    assert same[0]["lastTransitionTime"] == first[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert same[0]["observedGeneration"] == 2
    assert turned[0]["lastTransitionTime"] == "2026-01-02T00:00:00Z"


def test_silence_keeps_the_old_verdict() -> None:
    old = merge_conditions([], [ready(Truth.TRUE)], generation=1, now=THEN)
    assert merge_conditions(old, [], generation=2, now=NOW) == old


def test_long_messages_are_cut_to_what_the_schema_takes() -> None:
    merged = merge_conditions([], [ready(Truth.TRUE, "x" * 5000)], generation=1, now=NOW)
    assert len(merged[0]["message"]) == MAX_MESSAGE


def test_unknown_stands_for_none() -> None:
    assert (Truth.of(None), Truth.of(True), Truth.of(False)) == (Truth.UNKNOWN, Truth.TRUE, Truth.FALSE)


def test_conditions_of_others_go_where_the_api_server_would_refuse_the_whole_status() -> None:
    foreign = [{"type": f"Theirs{number}", "status": "True", "lastTransitionTime": "x"} for number in range(32)]
    few = merge_conditions(foreign[:31], [ready(Truth.TRUE)], generation=1, now=NOW)
    assert len(few) == MOST_CONDITIONS
    many = merge_conditions(foreign, [ready(Truth.TRUE)], generation=1, now=NOW)
    assert [entry["type"] for entry in many] == ["Ready"]
