"""The base of every model in the API: camelCase names, strictness, lists with keys, and rules that are written once.

A rule is a CEL expression for the API server and the same verdict in Python, side by side on the model it reads. The
API server refuses a bad object at admission; the Python half refuses it where no admission ran (a simulation, an
object stored under an older schema).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

ACRONYMS = {"wal": "WAL", "lsn": "LSN"}
VALIDATIONS = "x-kubernetes-validations"
RULE_FAILED = "rule"

Json = dict[str, Any]
ModelT = TypeVar("ModelT", bound=BaseModel)
Verdict = Callable[[ModelT], bool]


def to_camel(name: str) -> str:
    """`max_slot_wal` becomes `maxSlotWAL`, as Kubernetes writes acronyms; a trailing underscore is dropped."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(ACRONYMS.get(word, word.capitalize()) for word in rest)


def cel_text(text: str) -> str:
    """Quote text, such as a regular expression, as a CEL string."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


@dataclass(frozen=True, slots=True)
class CelRule:
    """One entry of x-kubernetes-validations: the message names the remedy, `field` is a path below the rule's object.

    With `is_ratcheting` the rule is checked only when a field that it reads has changed. The API server treats
    unchanged values in the same way. A rule on a large object can then never block scaling or pausing.
    """

    rule: str
    message: str
    field: str = ""
    is_ratcheting: bool = False

    def to_json(self) -> Json:
        """The entry as the API server reads it."""
        entry: Json = {"rule": self.rule, "message": self.message}
        if self.field:
            entry["fieldPath"] = self.field
        if self.is_ratcheting:
            fields = sorted(set(re.findall(r"\bself\.(\w+)", self.rule)))
            same = " && ".join(_is_unchanged(field) for field in fields)
            entry["rule"] = f"({self.rule}) || (oldSelf.hasValue() && {same})"
            entry["optionalOldSelf"] = True
        return entry

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        return {**found, VALIDATIONS: [*found.get(VALIDATIONS, []), self.to_json()]}


def rule(
    cel: str, message: str, *, field: str = "", ratcheting: bool = False
) -> Callable[[Verdict[ModelT]], Verdict[ModelT]]:
    """Declare a method as a rule of its model: `cel` for the API server, the method's verdict for Python."""
    declared = CelRule(cel, message, field, ratcheting)

    def mark(verdict: Verdict[ModelT]) -> Verdict[ModelT]:
        vars(verdict)["__cel__"] = declared
        return verdict

    return mark


class Model(BaseModel):
    """Base of every object in the API: immutable, camelCase in YAML, each field described by its docstring."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )
    transitions: ClassVar[tuple[CelRule, ...]] = ()
    """Rules over the old and the new object, which only the API server can check."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        entries = [declared.to_json() for declared in (*_rules_of(cls), *cls.transitions)]
        if entries:
            handler.resolve_ref_schema(found)[VALIDATIONS] = entries
        return found


class SpecModel(Model):
    """Part of a spec: an unknown field is refused, and its rules hold."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        for name, declared in _rules_by_name(type(self)).items():
            if not getattr(self, name)():
                raise PydanticCustomError(
                    RULE_FAILED, "{message}", {"message": declared.message, "field": declared.field}
                )
        return self


class StatusModel(Model):
    """Part of a status, written by Headroom alone. Unknown fields of an older or newer version are ignored."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True)
class MapBy:
    """Annotates a tuple of models as a list-map; `key` is the YAML name of the field that identifies an entry."""

    key: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}

    def _check(self, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        _refuse_duplicates([getattr(entry, self.key) for entry in entries], f"give each entry its own {self.key}")
        return entries


@dataclass(frozen=True, slots=True)
class Unique:
    """Annotates a tuple of texts as a set."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "x-kubernetes-list-type": "set"}

    def _check(self, entries: tuple[str, ...]) -> tuple[str, ...]:
        _refuse_duplicates(list(entries), "name each entry once")
        return entries


def _refuse_duplicates(keys: list[Any], remedy: str) -> None:
    if len(set(keys)) != len(keys):
        raise PydanticCustomError(RULE_FAILED, "{message}", {"message": remedy, "field": ""})


def _is_unchanged(field: str) -> str:
    # Comparing `self.?field` would be shorter, but the API server cannot bound its cost.
    now, before = f"self.{field}", f"oldSelf.value().{field}"
    return f"has({now}) == has({before}) && (!has({now}) || {now} == {before})"


def _rules_of(cls: type) -> list[CelRule]:
    return list(_rules_by_name(cls).values())


@cache
def _rules_by_name(cls: type) -> dict[str, CelRule]:
    found: dict[str, CelRule] = {}
    for base in reversed(cls.__mro__):
        for name, member in vars(base).items():
            declared = getattr(member, "__cel__", None)
            if isinstance(declared, CelRule):
                found[name] = declared
    return found
