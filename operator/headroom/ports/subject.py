"""Which object the running task works on, so that every line it logs can name it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Subject:
    """An object as a log line names it."""

    kind: str
    namespace: str
    name: str
    uid: str


_SUBJECT: ContextVar[Subject | None] = ContextVar("headroom_subject", default=None)


def current_subject() -> Subject | None:
    """The object of the innermost `working_on` of this task, if there is one."""
    return _SUBJECT.get()


@contextmanager
def working_on(kind: str, metadata: Mapping[str, Any]) -> Iterator[None]:
    """Name an object in everything that is logged inside, tasks started there included."""
    subject = Subject(kind, metadata.get("namespace", ""), metadata.get("name", ""), metadata.get("uid", ""))
    token = _SUBJECT.set(subject)
    try:
        yield
    finally:
        _SUBJECT.reset(token)
