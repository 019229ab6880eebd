"""The shape of a statement shows what it does, and never a value of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.model.waits import LONGEST_STATEMENT, Blocker, WaitSample, describe_statement

SHAPES = [
    (
        "UPDATE accounts SET balance = balance - 12.50, note = 'it''s me' WHERE id = 42 AND x.y = $1",
        "UPDATE accounts SET balance = balance - ?, note = ? WHERE id = ? AND x.y = $1",
    ),
    ("select *\n  from a where b in (1, 2,3)\tfor update;", "select * from a where b in (?) for update"),
    ("SELECT pg_advisory_xact_lock(123456789)", "SELECT pg_advisory_xact_lock(?)"),
    (r"select E'x\'y 9', e'\\', U&'d\0061', X'1F', b'01', N'n'", "select ?, ?, ?, ?, ?, ?"),
    ("select $$body 1$$, $tag$ it's $$ here $tag$, 5", "select ?, ?, ?"),
    ("values (-1e-5, 0x1F, 1_000, .5, 3.e7, 2.5e+3, 12)", "values (-?, ?, ?, ?, ?, ?, ?)"),
    ("select 1 -- token=secret", "select ?"),
    ("select /* a /* nested */ secret */ 1 /* cut off", "select ?"),
    ("UPDATE t SET a = 'cut off here and nev", "UPDATE t SET a = ?"),
    ("select $x$ cut off 77", "select ?"),
    ('select "plain", "My Secret", "cut off', 'select "plain", ?, ?'),
    ("SET app.user = bob", "SET app.user = ?"),
    ("set local role to alice", "set local role to ?"),
    ("ALTER ROLE worker PASSWORD 'hunter2'", "ALTER ROLE worker PASSWORD ?"),
    ("", ""),
]


@pytest.mark.parametrize(("query", "shape"), SHAPES, ids=[query[:30] for query, _ in SHAPES])
def test_shapes(query: str, shape: str) -> None:
    assert describe_statement(query) == shape


def test_a_long_statement_is_cut() -> None:
    shape = describe_statement("SELECT " + ", ".join(f"column_{index}" for index in range(100)))
    assert len(shape) == LONGEST_STATEMENT
    assert shape.endswith("…")


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",))), st.integers(0, 60))
def test_no_text_leaks_however_the_statement_is_cut_off(value: str, length: int) -> None:
    quoted = value.replace("'", "''")
    query = f"UPDATE people SET name = 'SECRET{quoted}SECRET' WHERE id = 7"
    assert "SECRET" not in describe_statement(query[: len(query) - length])


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers())
def test_no_number_leaks(real: float, whole: int) -> None:
    shape = describe_statement(f"select {real!r}, {whole} from t")
    assert not any(character.isdigit() for character in shape)


def test_a_sample_counts_its_sessions() -> None:
    sample = WaitSample((("CPU", 1), ("IO:DataFileRead", 2), ("Lock:advisory", 3), ("Lock:transactionid", 4)))
    assert (sample.sessions, sample.lock_waiters) == (10, 7)
    assert (WaitSample().sessions, WaitSample(blocker=Blocker("", 1)).lock_waiters) == (0, 0)
