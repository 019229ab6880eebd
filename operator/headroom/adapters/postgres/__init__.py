"""PostgreSQL over psycopg 3."""

from headroom.adapters.postgres.conninfo import SessionNames
from headroom.adapters.postgres.server import PsycopgPostgres

__all__ = ["PsycopgPostgres", "SessionNames"]
