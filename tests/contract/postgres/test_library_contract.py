"""What every implementation of PrimaryLink and ReplicaLink tells about collations, extensions and preloads."""

import pytest

from headroom.errors import PrimaryUnavailable
from headroom.policy.replicaset.libraries import compare_libraries, describe_notes
from headroom.reasons import Reason
from tests.contract.postgres.worlds import CLOSED_DATABASE, REPLICA_NAME, World
from tests.postgres_server import DATABASE


async def test_both_sides_name_what_a_database_needs_and_what_their_image_has(world: World) -> None:
    world.need_libraries()
    primary = await (await world.postgres.open_primary(world.target())).libraries()
    replica = await (await world.postgres.open_replica(world.replica_target())).libraries()
    assert replica.server_name == REPLICA_NAME
    assert (primary.preloaded, replica.preloaded) == ("", "")
    for server in (primary, replica):
        [store] = [database for database in server.databases if database.name == DATABASE]
        assert ("pg_trgm", "1.6") in store.extensions
        assert ("pg_trgm", "1.6") in server.available
        assert store.unread == ""
        collations = {each.name: each for each in store.collations}
        assert collations["default"].provider == "c"
        assert "public.unused" not in collations, "nothing is stored in its order"
        german = collations["public.german"]
        assert (german.provider, german.recorded) == ("i", german.actual)
        assert german.actual
    assert compare_libraries(primary, replica, ()) is None


async def test_a_database_that_shuts_us_out_is_named_with_the_grant(world: World) -> None:
    world.need_libraries()
    primary = await (await world.postgres.open_primary(world.target())).libraries()
    [closed] = [database for database in primary.databases if database.name == CLOSED_DATABASE]
    assert f'permission denied for database "{CLOSED_DATABASE}"' in closed.unread
    assert [each.name for each in closed.collations] == ["default"], "it is read from outside"
    assert describe_notes(primary).startswith(f"the extensions of database {CLOSED_DATABASE} are not compared")


async def test_templates_are_left_alone(world: World) -> None:
    primary = await (await world.postgres.open_primary(world.target())).libraries()
    assert not {"template0", "template1"} & {database.name for database in primary.databases}


async def test_preloads_are_unknown_without_pg_monitor(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    world.revoke("pg_monitor")
    assert (await link.libraries()).preloaded is None


async def test_a_server_that_is_away_is_an_error_and_no_answer(world: World) -> None:
    link = await world.postgres.open_primary(world.target())
    world.stop()
    with pytest.raises(PrimaryUnavailable) as caught:
        await link.libraries()
    assert caught.value.reason in {Reason.PRIMARY_UNREACHABLE, Reason.PRIMARY_TIMEOUT}
