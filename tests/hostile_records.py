"""Servers whose records of TLS are small: harmful by their number, or as some proxies write them."""

from tests.hostile_conversation import (
    DONE,
    MEBIBYTE,
    PIECE,
    PREPARED,
    TEXT,
    Conversation,
    describe,
    message,
    row,
)


async def send_bytes_apart(talk: Conversation, data: bytes) -> None:
    """Each byte in a record of TLS of its own, all at once."""
    tls = talk.writer.get_extra_info("ssl_object")
    for byte in data[:-1]:
        tls.write(bytes((byte,)))
    await talk.send(data[-1:])


async def whisper(talk: Conversation) -> None:
    """Notices in the login."""
    await talk.ask(10, b"SCRAM-SHA-256\0\0")
    await send_bytes_apart(talk, message(b"N", b"SNOTICE\0C00000\0M" + PIECE[:1900] + b"\0\0") * 3)


async def whisper_answers(talk: Conversation) -> None:
    """The same in an answer."""
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    await send_bytes_apart(talk, PREPARED + describe(("value", TEXT)) + row(b"y" * 5_000) + DONE)


async def answer_in_small_records(talk: Conversation) -> None:
    """As much as an answer may be, in records of 1.2 KiB, as some proxies write them; then it hangs up."""
    await talk.log_in_and_answer_hello()
    await talk.await_request()
    answer = PREPARED + describe(("value", TEXT)) + row(b"y" * (MEBIBYTE - 4096)) + DONE
    for at in range(0, len(answer), 1208):
        await talk.send(answer[at : at + 1208])
    talk.writer.close()
    await talk.writer.wait_closed()
