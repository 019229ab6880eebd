"""A status that no version of ours wrote: the object gets its passes and its conditions all the same."""

from typing import Any

import pytest

from tests.fuzz.play import FuzzWorld
from tests.manifests import make_guard, make_pool, make_set

LEAP = "2026-06-30T23:59:60Z"
FROZEN = {"frozenWorkers": 3, "frozenAt": "2026-01-01T00:00:00Z"}


def damaged(manifest: dict[str, Any], status: dict[str, Any]) -> FuzzWorld:
    manifest["metadata"]["name"] = "other"
    return FuzzWorld({**manifest, "status": status})


@pytest.mark.parametrize(
    "world",
    [
        lambda: damaged(make_pool(), {"effectiveness": FROZEN}),
        lambda: damaged(make_pool(), {"effectiveness": {"gain": 0.5}}),
        lambda: damaged(make_pool(), {"scaling": {"spareSince": LEAP}}),
        lambda: damaged(make_guard(), {"state": "Brownout", "stateSince": LEAP}),
        lambda: damaged(make_guard(), {"state": "Healthy", "stateSince": "0001-01-01T00:00:00Z"}),
        lambda: damaged(
            make_set(),
            {"members": [{"name": "a", "unreplayedPosition": "x", "unreplayedSince": "2026-01-01T00:00:00Z"}]},
        ),
        lambda: damaged(make_set(), {"members": [{"name": "a", "fullAt": LEAP}]}),
    ],
    ids=["frozen", "gain", "spare", "state", "old state", "position", "full"],
)
async def test_a_damaged_status_stops_no_object(world: Any) -> None:
    played = world()
    await played.make_passes()
    played.check()
    await played.tear_down()


async def test_a_guard_with_a_damaged_status_still_knows_its_server() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Connected", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"state": "Brownout", "stateSince": LEAP, "systemIdentifier": "1", "timeline": 7, "conditions": [ready]}
    world = damaged(make_guard(), status)
    await world.make_passes()
    found = world.find_condition(world.ref, "Ready")
    assert (found["status"], found["reason"]) == ("False", "PrimaryReplaced")
