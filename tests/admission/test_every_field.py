"""Every field of every kind, with values nobody should write: API server and parser give the same verdict.

A value that is accepted must be readable, or the operator would meet specs that it cannot act on; a value that is
refused must be unreadable, or `headroom simulate` would promise what no cluster takes.
"""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from headroom.errors import InvalidSpec
from tests.admission.cases import KINDS, load_good, parse_body
from tests.admission.server import Server

pytestmark = pytest.mark.cluster
GROUP = "headroom.dev"
ODD_NUMBERS = (0, -1, 2**31, 2**63 - 1, 1.5)
ODD_TEXTS = ("", " ", "..", "a b\n", "ü", "x" * 9000, "0s", "999h", "-5Gi", "1e3")
ODD_SHAPES = (True, [], ["a", "a"], {"name": "a"})
ODD_VALUES = (*ODD_NUMBERS, *ODD_TEXTS, *ODD_SHAPES)
FULLEST = [body for body in load_good() if body["metadata"]["name"] in {"fullest", "own-sql", "by-prometheus"}]
SMALLEST = {body["kind"]: body for body in load_good() if body["metadata"]["name"] == "smallest"}
# Parts of a spec that a rule of another part reads.
NEEDED_BY = {"autoscaling": ("resources",), "shedding": ("queue",)}
Path = tuple[str | int, ...]


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every field and entry below a value."""
    entries: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


def _first_of_each(paths: Iterator[Path]) -> list[Path]:
    """One path of those that differ only in the entry of a list."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(tuple("[]" if isinstance(key, int) else key for key in path), path)
    return list(found.values())


def _with(body: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The smallest object of the kind, the part that the path is in, and the odd value there."""
    part = str(path[0])
    parts = {name: body["spec"][name] for name in (part, *NEEDED_BY.get(part, ())) if name in body["spec"]}
    base = SMALLEST[body["kind"]] if body["metadata"]["name"] == "fullest" else body
    changed = copy.deepcopy({**body, "spec": {**base["spec"], **parts}})
    parent = changed["spec"]
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return changed


def _is_readable(body: dict[str, Any]) -> bool:
    try:
        parse_body(body)
    except InvalidSpec:
        return False
    return True


def _text(path: Path) -> str:
    return "spec" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def _disagreement(server: Server, body: dict[str, Any], path: Path, value: Any) -> str | None:
    changed = _with(body, path, value)
    refusal = server.try_create(GROUP, KINDS[body["kind"]], changed)
    if (refusal is None) == _is_readable(changed):
        return None
    verdict = "accepted" if refusal is None else f"refused ({refusal.message[:200]})"
    return f"{_text(path)} = {str(value)[:40]!r} ({type(value).__name__}) is {verdict} by the API server only"


@pytest.mark.parametrize("body", FULLEST, ids=lambda body: f"{body['kind']} {body['metadata']['name']}")
def test_api_server_and_parser_agree_on_odd_values(server: Server, body: dict[str, Any]) -> None:
    tries = [(path, value) for path in _first_of_each(_paths(body["spec"])) for value in ODD_VALUES]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda attempt: _disagreement(server, body, *attempt), tries))

    assert len(tries) > 100
    assert [text for text in found if text] == []
