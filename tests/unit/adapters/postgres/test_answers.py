"""What passes of a server's answers, and what does not."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headroom.adapters.postgres.wire.answers import (
    FREE_BYTES,
    MOST_ANSWER_BYTES,
    MOST_MESSAGES,
    MOST_NOTES,
    NOTES_EACH_SECOND,
    PIECE_MESSAGES,
    AnswerFilter,
)
from headroom.adapters.postgres.wire.messages import NotPostgres, Violation, build, parse_error, parse_parameter
from headroom.adapters.postgres.wire.meter import MOST_NAMESPACE_BYTES, MOST_PROCESS_BYTES, Busy, Meter

READY = build(b"Z", b"I")
NOTE = build(b"A", struct.pack("!i", 7) + b"jobs\0\0")
ERROR = b"SERROR\0VERROR\0C22023\0Mno\0\0"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_filter(*, hears: bool = False, clock: Clock | None = None) -> AnswerFilter:
    return AnswerFilter(Meter(1 << 30), hears=hears, clock=clock or Clock())


def row(size: int) -> bytes:
    return build(b"D", b"x" * size)


ANSWERS = [
    (build(b"1") + build(b"2") + build(b"T", b"\0\1") + row(20) + build(b"C", b"SELECT 1\0") + READY, None),
    (build(b"N", b"SNOTICE\0\0") + READY, READY),
    (build(b"N") + READY, READY),
    (build(b"S", b"TimeZone\0UTC\0") + READY, None),
    (build(b"S", b"anything\0else\0") + READY, READY),
    (build(b"S") + READY, READY),
    (build(b"E", ERROR) + READY, None),
    (build(b"E") + READY, build(b"E", b"\0") + READY),
    (build(b"A", struct.pack("!i", 7) + b"jobs\0text\0") + READY, READY),
]


@given(st.sampled_from(ANSWERS), st.lists(st.integers(1, 40), max_size=40))
def test_what_passes_does_not_depend_on_how_it_was_cut(answer: tuple[bytes, bytes | None], cuts: list[int]) -> None:
    sent, expected = answer
    answers, passed, at = make_filter(), b"", 0
    for length in [*cuts, len(sent)]:
        passed += answers.feed(sent[at : at + length])
        at += length
    assert passed == (sent if expected is None else expected)


def test_a_listener_hears_the_channel_and_nothing_else() -> None:
    note = struct.pack("!i", 7) + b"jobs\0a text\0"
    assert make_filter(hears=True).feed(build(b"A", note)) == build(b"A", struct.pack("!i", 7) + b"jobs\0\0")
    assert make_filter(hears=True).feed(build(b"A")) == build(b"A", b"\0\0\0\0\0\0")


def test_a_listener_may_hear_for_ever_and_of_a_crowd_hears_one() -> None:
    clock = Clock()
    answers, other = make_filter(hears=True, clock=clock), build(b"A", struct.pack("!i", 7) + b"mail\0\0")
    for _ in range(200):
        clock.now += 1.0
        assert answers.feed(NOTE * 49 + other + NOTE * 49) == NOTE + other


@pytest.mark.parametrize(("text", "most"), [(b"", MOST_NOTES), (b"x" * 8000, MOST_NOTES // 16)])
def test_a_flood_of_notifications_ends(text: bytes, most: int) -> None:
    """At once, and a second, long ones sooner: a batch of thousands is usual, and no listener may cost a processor."""
    clock, note = Clock(), build(b"A", struct.pack("!i", 7) + b"jobs\0" + text + b"\0")
    burst = make_filter(hears=True, clock=clock)
    burst.feed(note * (most * 9 // 10))
    with pytest.raises(Violation, match="notifications at once"):
        burst.feed(note * (most // 5))
    steady = make_filter(hears=True, clock=clock)
    for _ in range(10_000):
        clock.now += len(note) / 400 / NOTES_EACH_SECOND + 1 / NOTES_EACH_SECOND
        steady.feed(note)

    def hurry() -> None:
        for _ in range(3 * most):
            clock.now += len(note) / 1200 / NOTES_EACH_SECOND
            steady.feed(note)

    with pytest.raises(Violation, match="a second"):
        hurry()


@pytest.mark.parametrize("piece", [build(b"A"), NOTE, build(b"N", b"\0"), build(b"2"), row(2)])
def test_a_turn_of_the_loop_reads_a_hundred_messages(piece: bytes) -> None:
    answers = make_filter(hears=True)
    _, count = answers.feed_some(piece * 1000)
    assert PIECE_MESSAGES * len(piece) <= count <= (PIECE_MESSAGES + 1) * len(piece)


def test_a_length_is_refused_before_anything_of_it_has_come() -> None:
    with pytest.raises(Violation, match="larger than 1024 KiB"):
        make_filter().feed(b"D" + struct.pack("!I", 1 << 30))


def test_an_answer_is_bounded_as_a_whole_and_the_next_one_is_new() -> None:
    answers = make_filter()
    half = row(MOST_ANSWER_BYTES // 2)
    answers.feed(half)
    answers.begin()
    answers.feed(half)
    with pytest.raises(Violation, match="larger than 1024 KiB"):
        answers.feed(half)


def test_rows_are_bounded_however_small() -> None:
    answers = make_filter()
    answers.feed(row(2) * MOST_MESSAGES)
    with pytest.raises(Violation, match="rows"):
        answers.feed(row(2))


@pytest.mark.parametrize("kind", [b"N", b"S", b"A"])
def test_what_is_dropped_counts_as_well(kind: bytes) -> None:
    answers = make_filter()
    with pytest.raises(Violation, match="larger than"):
        answers.feed(build(kind, b"unknown\0" + b"x" * 8000) * 200)


@pytest.mark.parametrize("kind", [b"R", b"K", b"v", b"G", b"H", b"W", b"d", b"c", b"V", b"\0", b"\xff"])
def test_what_answers_nothing_ends_the_connection(kind: bytes) -> None:
    with pytest.raises(Violation, match="answers nothing"):
        make_filter().feed(build(kind, b"\0\0\0\0"))


@pytest.mark.parametrize("message", [b"Z" + struct.pack("!I", 3), b"1" + struct.pack("!I", 5), b"E" + b"\xff" * 4])
def test_a_length_that_cannot_be_ends_the_connection(message: bytes) -> None:
    with pytest.raises(Violation):
        make_filter().feed(message)


def test_an_error_is_cut_to_what_is_shown() -> None:
    text = "bad\x1b[31m\r\n\u202eexe".encode() + b"x" * 20_000
    passed = make_filter().feed(build(b"E", b"SERROR\0C22023\0M" + text + b"\0Wwhere it was\0\0"))
    assert len(passed) < 1100
    body = passed[5:].decode()
    assert "22023" in body
    assert not set(body) & {"\x1b", "\r", "\n", "\u202e"}
    assert "where it was" not in body


def claim(answers: AnswerFilter, size: int) -> AnswerFilter:
    """A row that is announced, and of which nothing comes."""
    answers.feed(b"D" + struct.pack("!I", size - 1))
    return answers


def test_connections_of_a_namespace_share_their_room() -> None:
    """A large answer counts until its connection is gone: libpq keeps the room that it made."""
    meter = Meter(most=3 * FREE_BYTES, most_each=2 * FREE_BYTES)
    large = row(2 * FREE_BYTES - 5)
    one, two, elsewhere = (AnswerFilter(meter, name) for name in ("tenant", "tenant", "other"))
    one.feed(large)
    one.begin()
    two.feed(large)
    assert meter.held_by("tenant") == 2 * FREE_BYTES
    with pytest.raises(Busy, match="other connections"):
        AnswerFilter(meter, "tenant").feed(large)
    elsewhere.feed(large)
    assert AnswerFilter(meter, "other").feed(row(FREE_BYTES - 5)), "small answers need no room"
    for gone in (one, two, elsewhere):
        gone.close()
        gone.close()
    assert meter == Meter(most=3 * FREE_BYTES, most_each=2 * FREE_BYTES), "nothing of a namespace stays"


def test_only_what_has_come_takes_room() -> None:
    """54 connections of three namespaces that had sent 270 bytes refused every other namespace its answers."""
    meter = Meter()
    held = [claim(AnswerFilter(meter, f"evil-{number % 3}"), MOST_ANSWER_BYTES) for number in range(300)]
    assert meter.held == 0
    assert AnswerFilter(meter, "shop").feed(row(100 << 10))
    assert len(held) == 300


def test_who_holds_most_gives_way() -> None:
    """Three namespaces at their bound are the whole process: a fourth takes room from them, and they get none back."""
    meter, ended = Meter(), []

    def hold(namespace: str, size: int) -> AnswerFilter:
        answers = AnswerFilter(meter, namespace)
        answers.end = lambda problem: ended.append((namespace, size, problem))
        answers.feed(row(size + FREE_BYTES - 5))
        return answers

    each = MOST_NAMESPACE_BYTES // 32
    for number in range(MOST_PROCESS_BYTES // each):
        hold(f"evil-{number % 3}", each)
    assert (meter.held, ended) == (MOST_PROCESS_BYTES, [])
    hold("shop", 36 << 10)
    assert [(namespace.startswith("evil"), size) for namespace, size, _ in ended] == [(True, each)]
    assert isinstance(ended[0][2], Busy)
    for number in range(100):
        with suppress(Busy):
            hold(f"evil-{number % 3}", each)
    assert "shop" not in {namespace for namespace, *_ in ended}
    assert meter.held <= MOST_PROCESS_BYTES
    assert meter.held_by("shop") == 36 << 10


@given(st.binary(max_size=400))
def test_nothing_but_a_violation_comes_of_noise(noise: bytes) -> None:
    answers = make_filter()
    try:
        answers.feed(noise)
    except Violation:
        return


@given(st.binary(max_size=200))
def test_an_error_is_one_of_postgresql_or_is_not_shown(noise: bytes) -> None:
    parse_parameter(noise)
    try:
        found = parse_error(noise)
    except NotPostgres:
        return
    assert found.text.isprintable()
