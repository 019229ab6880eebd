"""A server whose answer was refused is logged in to again after a pause that grows to a minute."""

import asyncio
from dataclasses import replace

import pytest

from headroom.adapters.postgres.refusals import FIRST_SECONDS, FORGOTTEN_SECONDS, LONGEST_SECONDS, Refusals
from headroom.errors import PrimaryUnavailable
from headroom.model.database import ConnectionTarget, Credentials
from headroom.reasons import Reason

pytestmark = pytest.mark.looptime(start=0)

TARGET = ConnectionTarget("db", 5432, "store", Credentials("m", "p"), namespace="shop")
USE = "headroom/probes/lease/one"
REFUSED = PrimaryUnavailable("db:5432: the answer was not understood", reason=Reason.ANSWER_REFUSED)


def may_try(refusals: Refusals, target: ConnectionTarget = TARGET, use: str = USE) -> bool:
    try:
        refusals.check(target, use)
    except PrimaryUnavailable:
        return False
    return True


async def test_the_pause_grows_to_a_minute() -> None:
    refusals = Refusals()
    assert may_try(refusals)
    refusals.record(TARGET, USE, REFUSED)
    with pytest.raises(PrimaryUnavailable, match=str(REFUSED)) as caught:
        refusals.check(TARGET, USE)
    assert caught.value.reason is Reason.ANSWER_REFUSED, "a status says the same as before"
    refusals = Refusals()
    for pause in (10.0, 20.0, 40.0, 60.0, 60.0):
        refusals.record(TARGET, USE, REFUSED)
        await asyncio.sleep(pause - 0.5)
        assert not may_try(refusals)
        await asyncio.sleep(0.5)
        assert may_try(refusals)
    assert (FIRST_SECONDS, LONGEST_SECONDS) == (10.0, 60.0)


async def test_another_login_or_use_does_not_wait() -> None:
    refusals = Refusals()
    refusals.record(TARGET, USE, REFUSED)
    assert may_try(refusals, replace(TARGET, credentials=Credentials("m", "corrected")))
    assert may_try(refusals, replace(TARGET, namespace="another"))
    assert may_try(refusals, use="headroom/guard/lease/one")
    assert not may_try(refusals)


async def test_other_reasons_and_old_refusals_do_not_count() -> None:
    refusals = Refusals()
    for reason in (Reason.OPERATOR_BUSY, Reason.PRIMARY_UNREACHABLE):
        refusals.record(TARGET, USE, PrimaryUnavailable("?", reason=reason))
    assert may_try(refusals)
    for _ in range(3):
        refusals.record(TARGET, USE, REFUSED)
    await asyncio.sleep(FORGOTTEN_SECONDS + 1)
    assert may_try(refusals)
    assert not refusals._known
    refusals.record(TARGET, USE, REFUSED)
    await asyncio.sleep(FIRST_SECONDS)
    assert may_try(refusals)
