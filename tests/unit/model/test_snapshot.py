"""The stamps of a snapshot, and the names around it."""

from datetime import UTC, datetime

import pytest

from headroom.model.database import Lsn
from headroom.model.replica import SLOT_PATTERN, MemberId
from headroom.model.snapshot import (
    ANCHOR,
    CONSISTENCY,
    FROM_LSN,
    MAJOR,
    SOURCE_SLOT,
    SYSTEM,
    TO_LSN,
    SnapshotFacts,
    Stamps,
    anchor_name,
    is_anchor_of,
)

WHOLE = Stamps("7", 3, 17, "Stopped", "hr_0123abcd_4567cdef_0_a", "hr_0123abcd_4567cdef_s_b", Lsn(100), Lsn(200))


def test_stamps_are_read_back_as_they_were_written() -> None:
    assert Stamps.parse(WHOLE.format()) == WHOLE
    begun = {name: text for name, text in WHOLE.format().items() if name != TO_LSN}
    read = Stamps.parse(begun)
    assert read is not None
    assert (read.to_lsn, read.format()) == (None, begun)


@pytest.mark.parametrize("name", [name for name in WHOLE.format() if name != TO_LSN])
def test_stamps_that_lack_one_are_none(name: str) -> None:
    assert Stamps.parse({key: text for key, text in WHOLE.format().items() if key != name}) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (FROM_LSN, "16"),
        (TO_LSN, "x/y"),
        (MAJOR, "²"),
        (MAJOR, "-1"),
        (SYSTEM, "7\x1b[31m"),
        (SYSTEM, "7" * 21),
        (ANCHOR, "x" * 64),
        (SOURCE_SLOT, "$(x)"),
        (CONSISTENCY, "A" * 33),
    ],
)
def test_stamps_that_were_edited_into_nonsense_are_none(name: str, text: str) -> None:
    assert Stamps.parse({**WHOLE.format(), name: text}) is None


def test_only_a_ready_snapshot_with_all_stamps_is_whole() -> None:
    made = SnapshotFacts("store-s-b", "u", "1", datetime(2026, 1, 1, tzinfo=UTC), is_ready=True, stamps=WHOLE)
    assert made.is_whole
    begun = Stamps.parse({name: text for name, text in WHOLE.format().items() if name != TO_LSN})
    assert not SnapshotFacts("store-s-b", "u", "1", made.created_at, is_ready=True, stamps=begun).is_whole
    assert not SnapshotFacts("store-s-b", "u", "1", made.created_at, is_ready=False, stamps=WHOLE).is_whole


def test_an_anchor_is_a_slot_of_its_set_and_of_no_member() -> None:
    name = anchor_name("0123abcd", "uid-of-the-set", "t85s00")
    assert is_anchor_of("uid-of-the-set", name)
    assert not is_anchor_of("another", name)
    assert SLOT_PATTERN.fullmatch(name), "the sweeper knows it by this"
    assert MemberId.parse_slot("0123abcd", "uid-of-the-set", name) is None
    assert not is_anchor_of("uid-of-the-set", MemberId(0, "a").slot_name("0123abcd", "uid-of-the-set"))
