"""Specs that nobody would write, made from the CRDs' own schema: each is given by its number, and always the same.

Some are within the schema and its limits, some nearly, some far beyond. What a find needs to be played again is its
number alone: `FUZZ_FIRST=1234 FUZZ_SPECS=1 pytest tests/fuzz`.
"""

import copy
import os
import random
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.admission.cases import API_VERSION, KINDS, load_good

Json = Any
Way = tuple[str | int, ...]
CRDS = Path(__file__).parents[2] / "crds"
SPECS = int(os.environ.get("FUZZ_SPECS", "300"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))

ODD_NUMBERS = (0, -1, 1, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64, 10**40, 0.1, 1.0, -0.0, 1e308)
ODD_TEXTS = (
    "", " ", "..", ".", "/", "a b\n", "\n", "\r\n", "\t", "\x00", "\x1b[31mred", "\x7f", "\x85", "\u2028",
    "\u202egnp.exe", "\ufeff", "\u200b", "ü", "日本語", "e\u0301", "\U0001f600", "²", "٣", "\uff11\uff12", "NaN",
    "Infinity", "1e999", "0x10", "-0", "null", "true", "~", "{}", "[]", "%s%n", "%(x)s", "{{x}}", "{0}", "$(X)",
    "${X}", "`id`", "'", "\"", "\\", "\\'; --", "'; DROP TABLE x; --", "../../etc/passwd", "a\\\nb",
    "host all all all trust", "x" * 64, "x" * 254, "x" * 9000, "é" * 8192, "\U0001f600" * 4096, "a," * 4000,
    "-" * 300, "9" * 400, "0" * 100 + "1", "1h" * 8, "0s", "999h", "-5Gi", "9999999999Ei", "0.0000000001",
    "169.254.169.254", "127.0.0.1", "::1", "localhost", "[::1]", "http://[::1", "@", "a@b", "* * * * *", "0 0 31 2 *",
    "*/0 * * * *", "60 * * * *", "@reboot", "Mars/Phobos", "UTC", "headroom.dev/x", "store-0", "store-read",
    "kubernetes", "kube-system", "default",
)  # fmt: skip
TEXTS = (
    "store", "mail", "store-monitor", "store-replication", "a", "a.b.c", "1s", "500ms", "5m", "1h30m", "24h", "100ms",
    "1Mi", "16Mi", "1Gi", "64Ti", "500m", "2", "0.5", "0", "250", "999999999999999", "postgres:17", "postgres",
    "http://p:9090", "https://prometheus.monitoring.svc:9090/x", "0 16 * * FRI", "*/5 * * * *", "59 23 31 12 *",
    "0 0 29 2 *", "UTC", "Europe/London", "America/St_Johns", "apps/v1", "Deployment", "StatefulSet",
    "argoproj.io/v1alpha1", "Rollout", "store-primary", "tls.crt", "ca.crt", "SELECT 1", "work_mem",
    "hostssl all app 10.0.0.0/8 scram-sha-256", "local all all peer", "key", "example.com/key", "value", "z" * 40,
    "z" * 63, "z.z" * 40, "Z", "queue one", "Ü-queue", "it's", 'say "x"', "%", "\\",
)  # fmt: skip
TIMES = (
    "2026-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "2026-06-30T23:59:60Z", "2026-01-01T00:00:00.123456789Z", "2026-01-01t00:00:00z", "2026-01-01T00:00:00+23:59",
    "2026-01-01T00:00:00-00:00",
)  # fmt: skip
"""As the format of a schema allows them."""
LONG_LIST = 3000
DEEP = 80


@cache
def read_schema(kind: str) -> dict[str, Json]:
    """The schema of a kind's spec, as the API server has it."""
    text = (CRDS / f"headroom.dev_{KINDS[kind]}.yaml").read_text()
    version = yaml.safe_load(text)["spec"]["versions"][0]
    found: dict[str, Json] = version["schema"]["openAPIV3Schema"]["properties"]
    return found


@cache
def read_good() -> dict[str, list[Json]]:
    """Specs that are accepted, of each kind."""
    found: dict[str, list[Json]] = {kind: [] for kind in KINDS}
    for body in load_good():
        found[body["kind"]].append(body["spec"])
    return found


def build_objects(count: int = SPECS, first: int = FIRST) -> Iterator[tuple[int, dict[str, Json]]]:
    """So many objects with their numbers, of all kinds in turn."""
    for number in range(first, first + count):
        yield number, build_object(number)


def build_object(number: int) -> dict[str, Json]:
    """The object of a number: of four, two keep to the schema, one nearly does, and one does not care."""
    kind = list(KINDS)[number % len(KINDS)]
    maker = Maker(random.Random(number), wildness=(0.0, 0.0, 0.05, 0.6)[number // len(KINDS) % 4])
    if maker.random.random() < 0.75:
        spec = maker.change(copy.deepcopy(maker.random.choice(read_good()[kind])), read_schema(kind)["spec"])
    else:
        spec = maker.make(read_schema(kind)["spec"])
    if maker.random.random() < maker.wildness / 10:
        spec = maker.odd()
    metadata: dict[str, Json] = {"name": f"fuzz-{number}"}
    if maker.random.random() < 0.3:
        metadata["annotations"] = {key: maker.text() for key in ANNOTATIONS if maker.random.random() < 0.7}
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
    if maker.random.random() < 0.3:
        # As somebody with the right to write it may have left it: within the schema, and meaning nothing.
        body["status"] = Maker(maker.random, wildness=0.0).make(read_schema(kind)["status"])
    return body


ANNOTATIONS = ("headroom.dev/accept-system-identifier", "headroom.dev/abandon", "headroom.dev/slot", "example.com/note")


class Maker:
    """Makes values for a schema; `wildness` is how often one does not fit it."""

    def __init__(self, chance: random.Random, *, wildness: float) -> None:
        self.random, self.wildness = chance, wildness

    def change(self, spec: Json, schema: Json) -> Json:
        """A good spec with some values replaced, added or taken away."""
        for _ in range(self.random.choice((1, 1, 2, 4))):
            ways = [way for way in find_ways(spec) if way]
            if not ways:
                break
            self._change_one(spec, schema, self.random.choice(ways))
        return spec

    def _change_one(self, spec: Json, schema: Json, way: Way) -> None:
        parent = spec
        for step in way[:-1]:
            parent = parent[step]
        below = find_schema(schema, way)
        draw = self.random.random()
        if draw < 0.1:
            del parent[way[-1]]
        elif draw < 0.4 and isinstance(parent, dict):
            above = find_schema(schema, way[:-1]) or {}
            names = list(above.get("properties", {})) or ["x"]
            name = self.random.choice(names)
            parent[name] = self.make(above.get("properties", {}).get(name, {}))
        else:
            parent[way[-1]] = self.make(below or {})

    def make(self, schema: Json, depth: int = 0) -> Json:
        """A value for a schema."""
        if self.random.random() < self.wildness / (1 + depth):
            return self.odd()
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        kind = schema.get("type")
        if schema.get("x-kubernetes-int-or-string"):
            kind = self.random.choice(["integer", "string"])
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return self._number(schema)
        if kind == "boolean":
            return self.random.random() < 0.5
        return self._text(schema) if kind == "string" else self.odd()

    def odd(self) -> Json:
        """A value of any type that nobody should write."""
        pick = self.random.randrange(12)
        if pick < 4:
            return self.random.choice(ODD_TEXTS)
        if pick < 8:
            return self.random.choice(ODD_NUMBERS)
        return (
            None,
            [self.random.choice(ODD_TEXTS)] * self.random.choice([0, 1, 2, LONG_LIST]),
            {self.random.choice(ODD_TEXTS): self.random.choice(ODD_TEXTS), "name": "a"},
            _nest(self.random.randint(1, DEEP)),
        )[pick - 8]

    def text(self) -> str:
        """Any text."""
        return self.random.choice(self.random.choice([ODD_TEXTS, TEXTS]))

    def _object(self, schema: Json, depth: int) -> Json:
        required = schema.get("required", ())
        if "properties" in schema:
            share = 0.6 if depth < 2 else 0.35
            return {
                name: self.make(inner, depth + 1)
                for name, inner in schema["properties"].items()
                if name in required or self.random.random() < share
            }
        values = schema.get("additionalProperties") or {}
        count = self.random.choice([0, 1, 2, schema.get("maxProperties") or 3])
        keys = (
            [f"k{number}" for number in range(count)]
            if self.random.random() < 0.3
            else [self.text() for _ in range(count)]
        )
        return {key: self.make(values, depth + 1) for key in keys}

    def _array(self, schema: Json, depth: int) -> Json:
        least, most = schema.get("minItems", 0), schema.get("maxItems", 4)
        sizes = [least, min(least + 1, most), min(2, most)]
        if depth < 3 and self.random.random() < 0.2:
            sizes = [most, most + 1] if self.wildness else [most]
        return [self.make(schema.get("items", {}), depth + 1) for _ in range(self.random.choice(sizes))]

    def _number(self, schema: Json) -> Json:
        least, most = schema.get("minimum", -(2**31)), schema.get("maximum", 2**31)
        at_limits = [least, most, min(least + 1, most), (least + most) // 2]
        beyond = [least - 1, most + 1] if self.random.random() < self.wildness else []
        return self.random.choice([*at_limits, *beyond])

    def _text(self, schema: Json) -> str:
        """A text that fits pattern and length, if any of ours does."""
        if schema.get("format") == "date-time":
            return self.random.choice(TIMES)
        most, least = schema.get("maxLength", 64), schema.get("minLength", 0)
        pattern = schema.get("pattern", "")
        pool = [*TEXTS, *(ODD_TEXTS if self.random.random() < 0.3 else ()), "a" * most, "1" * min(most, 19)]
        fitting = [text for text in pool if least <= len(text) <= most and re.search(pattern, text)]
        return self.random.choice(fitting or pool)


def find_ways(value: Json, way: Way = ()) -> Iterator[Way]:
    """Every field and entry of a value."""
    yield way
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from find_ways(inner, (*way, key))


def find_schema(schema: Json, way: Way) -> Json | None:
    """The schema of what is there; None where the schema knows nothing of it."""
    for step in way:
        if not isinstance(schema, dict):
            return None
        schema = (
            schema.get("items")
            if isinstance(step, int)
            else (schema.get("properties", {}).get(step) or schema.get("additionalProperties"))
        )
    return schema


def _nest(depth: int) -> Json:
    value: Json = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"x": value}
    return value
