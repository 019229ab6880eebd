"""Texts from outside meet regular expressions: none of these may cost more than a text is long."""

import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import headroom

LENGTH = 32_768
MOST_SECONDS = 0.08
"""Of the processor: a quadratic expression takes seconds for such a text, a linear one some 5 ms."""
UNITS = (
    "a.", "a-", "a", "A", "1", "1.", "1 ", "'", '"', "''", '""', "a'", 'a"', " ", "\\", "_", "__", "/", "0/", "{",
    "$a$", "$", "password ", "password='", 'password="', "://a:", "://a", "a://a:b", "-----BEGIN CERTIFICATE-----",
    "-----BEGIN CERTIFICATE-----\n", "-----BEGIN PRIVATE KEY-----", "-----BEGIN A", "LOG: ", ": FATAL: ", "E'",
    "/*", "--", "(", "(?", "( ?,", ",?", "%(", "%(a", "first ", "1h", "1e1", "x\n", "hr_", "[", "a=", "T1-", "search ",
)  # fmt: skip
ENDS = ("", "!", "\x00")


def find_patterns() -> Iterator[tuple[str, str, re.Pattern[str], str]]:
    """Module, name, pattern and method of each use of a compiled pattern of ours."""
    for module in pkgutil.walk_packages(headroom.__path__, "headroom."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        if loaded.__file__ is None:
            continue
        source = Path(loaded.__file__).read_text()
        for name, value in vars(loaded).items():
            if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                for method in sorted(set(re.findall(rf"\b{name}\.(\w+)", source))):
                    yield module.name, name, value, method


USES = tuple(find_patterns())


def test_there_are_patterns_to_try() -> None:
    assert len(USES) > 25


@pytest.mark.parametrize(("module", "name", "pattern", "method"), USES, ids=lambda value: str(value)[-40:])
def test_a_pattern_costs_no_more_than_a_text_is_long(
    module: str, name: str, pattern: re.Pattern[str], method: str
) -> None:
    def apply(text: str) -> float:
        began = time.process_time()
        match method:
            case "sub":
                pattern.sub("", text)
            case "findall" | "finditer":
                pattern.findall(text)
            case _:
                getattr(pattern, method)(text)
        return time.process_time() - began

    for unit in UNITS:
        for end in ENDS:
            text = (unit * LENGTH)[:LENGTH] + end
            took = min(apply(text), *(apply(text) for _ in range(2))) if apply(text) > MOST_SECONDS else 0.0
            assert took < MOST_SECONDS, f"{module}.{name}.{method} of {unit!r}..{end!r} took {took:.2f} s"
