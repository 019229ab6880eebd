"""Replicas preload what the primary preloads, unless the spec says otherwise."""

from dataclasses import replace
from typing import Any

import pytest

from headroom.manifests.configuration import build_postgresql_conf
from tests.unit.manifests.test_golden import SERVER
from tests.unit.manifests.test_rules import make_settings


def preloads(on_primary: str | None, **settings: Any) -> str:
    changes = {} if on_primary is None else {"shared_preload_libraries": on_primary}
    server = replace(SERVER, settings={**SERVER.settings, **changes})
    lines = build_postgresql_conf(make_settings(**settings), server).splitlines()
    return next((line for line in lines if line.startswith("shared_preload_libraries")), "")


@pytest.mark.parametrize("on_primary", [None, "", " "])
def test_without_preloads_there_is_no_line(on_primary: str | None) -> None:
    assert preloads(on_primary) == ""


def test_the_primarys_list_is_taken_over() -> None:
    assert preloads("pg_stat_statements,pg_cron") == "shared_preload_libraries = 'pg_stat_statements, pg_cron'"


def test_what_the_spec_waives_is_left_out() -> None:
    found = preloads("pg_stat_statements, $libdir/pg_cron", ignored_libraries=("pg_cron",))
    assert found == "shared_preload_libraries = 'pg_stat_statements'"
    assert preloads("pg_cron", ignored_libraries=("pg_cron",)) == ""


def test_a_list_of_the_spec_replaces_it() -> None:
    own = {"shared_preload_libraries": "auto_explain"}
    assert preloads("pg_cron", parameters=own) == "shared_preload_libraries = 'auto_explain'"
