"""Values that are text in YAML and typed in Python: durations, sizes, quantities, decimals.

Each is an annotation for a pydantic field. It parses, checks its bounds, writes the canonical text back, and gives
the schema a pattern, a length and a CEL rule whose message says what to write.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from headroom.api.base import RULE_FAILED, VALIDATIONS, CelRule, cel_text
from headroom.api.quantities import (
    DECIMAL_MAX_LENGTH,
    DECIMAL_PATTERN,
    DURATION_MAX_LENGTH,
    DURATION_PATTERN,
    QUANTITY_MAX_LENGTH,
    QUANTITY_PATTERN,
    format_bytes,
    format_duration,
    parse_duration,
    parse_quantity,
)

ValueT = TypeVar("ValueT")

DURATION_OVERFLOW = "[0-9]{7}h|[0-9]{8}(s|m[0-9]|m$)|[0-9]{12}"
"""Numbers that overflow `duration()` of the API server: it would raise its own error instead of ours."""
LONGEST_SHOWN_PATTERN = 96
"""The API server quotes a `pattern` in its error. A longer one would hide the remedy, so only CEL checks it."""


@dataclass(frozen=True, slots=True)
class DurationRange:
    """Annotates a `timedelta` that is text in YAML, within inclusive bounds such as `1s` and `24h`."""

    least: str
    most: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _text_schema(self._parse, format_duration, timedelta)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        expression = (
            f"self.matches({cel_text(DURATION_PATTERN)}) && !self.matches({cel_text(DURATION_OVERFLOW)})"
            f" && duration(self) >= duration('{self.least}')"
            f" && duration(self) <= duration('{self.most}')"
        )
        return _text_json(DURATION_PATTERN, DURATION_MAX_LENGTH, CelRule(expression, self._remedy))

    @property
    def _remedy(self) -> str:
        return f"write a duration from {self.least} to {self.most}, such as 500ms, 30s, 5m or 1h30m"

    def _parse(self, value: str) -> timedelta:
        parsed = _parsed(parse_duration, value, self._remedy)
        if not parse_duration(self.least) <= parsed <= parse_duration(self.most):
            raise _refusal(self._remedy)
        return parsed


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Annotates an `int` of bytes that is a quantity in YAML, within inclusive bounds such as `1Mi` and `1Ti`."""

    least: str
    most: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _text_schema(self._parse, format_bytes, int)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        expression = (
            f"isQuantity(self) && quantity(self).compareTo(quantity('{self.least}')) >= 0"
            f" && quantity(self).compareTo(quantity('{self.most}')) <= 0"
        )
        return _text_json(QUANTITY_PATTERN, QUANTITY_MAX_LENGTH, CelRule(expression, self._remedy))

    @property
    def _remedy(self) -> str:
        return f"write a size from {self.least} to {self.most}, such as 512Mi or 20Gi"

    def _parse(self, value: str) -> int:
        parsed = _parsed(parse_quantity, value, self._remedy)
        if not parse_quantity(self.least) <= parsed <= parse_quantity(self.most):
            raise _refusal(self._remedy)
        return int(parsed)


@dataclass(frozen=True, slots=True)
class PositiveQuantity:
    """Annotates a `Decimal` that is a quantity above zero in YAML, as the averageValue of an autoscaler is."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _text_schema(self._parse, str, Decimal)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        expression = "isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))"
        return _text_json(QUANTITY_PATTERN, QUANTITY_MAX_LENGTH, CelRule(expression, self._remedy))

    @property
    def _remedy(self) -> str:
        return 'write a quantity above zero in quotes, such as "250" or "500m"'

    def _parse(self, value: str) -> Decimal:
        parsed = _parsed(parse_quantity, value, self._remedy)
        if parsed <= 0:
            raise _refusal(self._remedy)
        return parsed


@dataclass(frozen=True, slots=True)
class DecimalText:
    """Annotates a `Decimal` of zero or more that is quoted text in YAML: the API has no floats."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _text_schema(self._parse, str, Decimal)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        declared = CelRule(f"self.matches({cel_text(DECIMAL_PATTERN)})", self._remedy)
        return _text_json(DECIMAL_PATTERN, DECIMAL_MAX_LENGTH, declared)

    @property
    def _remedy(self) -> str:
        return 'write a decimal number in quotes, such as "0.5" or "250"'

    def _parse(self, value: str) -> Decimal:
        if not re.fullmatch(DECIMAL_PATTERN, value):
            raise _refusal(self._remedy)
        return Decimal(value)


DecimalNumber = Annotated[Decimal, DecimalText()]
Quantity = Annotated[Decimal, PositiveQuantity()]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Annotates text with a regular expression and a remedy that says what to write instead.

    The schema gets `pattern` for tools that check offline, and, unless `is_terse`, a CEL rule whose message is
    `remedy`: deep inside lists of lists rules would cost more than the API server allows.
    """

    regex: str
    remedy: str
    max_length: int
    min_length: int = 1
    is_terse: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _text_schema(self._parse, str, str)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        declared = CelRule(f"self.matches({cel_text(self.regex)})", self.remedy)
        text = {**_text_json(self.regex, self.max_length, declared), "minLength": self.min_length}
        if self.is_terse:
            del text[VALIDATIONS]
        elif len(self.regex) > LONGEST_SHOWN_PATTERN:
            del text["pattern"]
        return text

    def _parse(self, value: str) -> str:
        if not self.min_length <= len(value) <= self.max_length or not re.fullmatch(self.regex, value):
            raise _refusal(self.remedy)
        return value


def _text_schema(parse: Callable[[str], ValueT], write: Callable[[ValueT], str], kind: type[ValueT]) -> CoreSchema:
    """Accept text through `parse` and write text; Python code, unlike YAML, may also pass a value of `kind`."""

    def read_text(value: object) -> ValueT:
        if not isinstance(value, str):
            raise PydanticCustomError("text", "write text in quotes")
        return parse(value)

    def read(value: object) -> ValueT:
        if isinstance(value, kind) and not isinstance(value, str | bool):
            return parse(write(value))
        return read_text(value)

    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_plain_validator_function(read_text),
        python_schema=core_schema.no_info_plain_validator_function(read),
        serialization=core_schema.plain_serializer_function_ser_schema(write, return_schema=core_schema.str_schema()),
    )


def _text_json(pattern: str, max_length: int, declared: CelRule) -> JsonSchemaValue:
    return {"type": "string", "pattern": pattern, "maxLength": max_length, VALIDATIONS: [declared.to_json()]}


def _parsed(parse: Callable[[str], ValueT], value: str, remedy: str) -> ValueT:
    try:
        return parse(value)
    except ValueError as error:
        raise _refusal(remedy) from error


def _refusal(remedy: str) -> PydanticCustomError:
    return PydanticCustomError(RULE_FAILED, "{message}", {"message": remedy, "field": ""})
