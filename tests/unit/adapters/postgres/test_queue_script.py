"""The script that a preset ships grants the columns that its SQL reads, and no more."""

import re

import pytest

from headroom.adapters.postgres.queues.procrastinate import TABLES
from tests.postgres_server import QUEUE_SQL


@pytest.mark.parametrize("table", sorted(TABLES.columns))
def test_it_grants_what_is_read(table: str) -> None:
    pattern = rf'GRANT SELECT \(([^)]*)\)\s+ON :"queue_schema"\.{table} TO'
    (granted,) = re.findall(pattern, QUEUE_SQL.read_text())
    assert {name.strip() for name in granted.split(",")} == TABLES.columns[table]
