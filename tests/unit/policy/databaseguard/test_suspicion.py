"""Most servers that turn at the same moment are not believed for a minute: then it may be the operator."""

import pytest

from headroom.api.v1alpha1.common import GuardState
from headroom.policy.databaseguard.suspicion import HOLD_SECONDS, Turn
from headroom.reasons import Reason
from tests.unit.policy.databaseguard.make import TIMEOUT, GuardPolicyWorld


def turn(world: GuardPolicyWorld, *others: float | None) -> None:
    """The server becomes slow; each of the others turned so many seconds ago, None if it did not."""
    world.commit_seconds = 2.0
    world.extra["turns"] = tuple(None if ago is None else world.now - ago for ago in others)


def is_suspect(world: GuardPolicyWorld) -> bool:
    return any(note.reason is Reason.SUSPECT_OPERATOR for note in world.decision.notes)


@pytest.fixture
def calm() -> GuardPolicyWorld:
    world = GuardPolicyWorld()
    world.run(30)
    return world


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ((0, 0), True),
        ((0, None), False),
        ((None, None), False),
        ((0, None, None), False),
        ((0, 0, None), True),
        ((0,), False),
        ((), False),
        ((300, 300), False),
    ],
)
def test_more_than_half_of_two_others_or_more(
    calm: GuardPolicyWorld, others: tuple[float | None, ...], expected: bool
) -> None:
    turn(calm, *others)
    calm.run(14)
    assert is_suspect(calm) is expected
    assert calm.decision.state is (GuardState.HEALTHY if expected else GuardState.OVERLOADED)


def test_what_lasts_is_believed_after_a_minute(calm: GuardPolicyWorld) -> None:
    turn(calm, 0, 0)
    calm.run(HOLD_SECONDS + 4)
    assert calm.decision.state is GuardState.HEALTHY
    calm.run(16)
    assert calm.decision.state is GuardState.OVERLOADED
    assert not is_suspect(calm)


def test_what_passes_leaves_no_state_and_no_suspicion(calm: GuardPolicyWorld) -> None:
    turn(calm, 0, 0)
    calm.run(20)
    calm.commit_seconds = 0.002
    calm.run(60)
    assert {decision.state for decision in calm.decisions[5:]} == {GuardState.HEALTHY}
    assert calm.memory.server.turn == Turn()


def test_missed_deadlines_of_most_servers_are_not_believed_either(calm: GuardPolicyWorld) -> None:
    turn(calm, 0, 0)
    calm.problem = TIMEOUT
    calm.run(25)
    assert calm.memory.server.state.state is GuardState.HEALTHY
    assert is_suspect(calm)
    calm.run(HOLD_SECONDS)
    assert calm.decision.state is GuardState.OVERLOADED


def test_the_text_says_what_to_look_at_and_no_numbers_of_others(calm: GuardPolicyWorld) -> None:
    turn(calm, 0, 0, None)
    calm.run(14)
    message = next(note.message for note in calm.decision.notes if note.reason is Reason.SUSPECT_OPERATOR)
    assert message.startswith("most servers of this operator became slow at the same moment")
    assert message.endswith("the state holds for 60 s; look at the operator's pod and its node")
