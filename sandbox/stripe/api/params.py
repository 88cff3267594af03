"""Declaration and validation of the parameters of an endpoint.

Messages and codes follow Stripe's docs page on error codes (`parameter_unknown`,
`parameter_missing`, `parameter_invalid_empty`, `parameter_invalid_integer`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sandbox.stripe.api.errors import StripeError, rejected

METADATA_KEYS = 50
METADATA_KEY_LENGTH = 40
METADATA_VALUE_LENGTH = 500
# ASCII: otherwise `\d` matches the digits of other scripts, which `int` accepts too.
WHOLE_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)
PERCENTAGE = re.compile(r"\d{1,3}(\.\d{1,4}0*)?", re.ASCII)
INDEX = re.compile(r"\d{1,6}", re.ASCII)


class Kind(Protocol):
    """Type of a parameter."""

    def read(self, value: Any, name: str) -> Any:
        """Return the parsed value. Raises a 400 if it is invalid."""


@dataclass(frozen=True, slots=True)
class Text:
    """String; `unset` allows "" and reads it as None."""

    unset: bool = False
    max_length: int = 5000

    def read(self, value: Any, name: str) -> str | None:
        if not isinstance(value, str):
            raise rejected(f"Invalid string: {value}", param=name)
        if value == "" and self.unset:
            return None
        if value == "":
            raise _empty(name)
        if len(value) > self.max_length:
            raise rejected(
                f"Invalid string: {value[:20]}...; must be at most "
                f"{self.max_length} characters",
                param=name,
            )
        return value


@dataclass(frozen=True, slots=True)
class Integer:
    """Integer within optional bounds; `unset` allows "" and reads it as None."""

    minimum: int | None = None
    maximum: int | None = None
    unset: bool = False

    def read(self, value: Any, name: str) -> int | None:
        if value == "" and self.unset:
            return None
        if not isinstance(value, str) or not WHOLE_NUMBER.fullmatch(value):
            raise rejected(
                f"Invalid integer: {value}",
                param=name,
                code="parameter_invalid_integer",
            )
        number, rule = int(value), None
        if self.minimum is not None and number < self.minimum:
            rule = f"greater than or equal to {self.minimum}"
        if self.maximum is not None and number > self.maximum:
            rule = f"less than or equal to {self.maximum}"
        if rule:
            raise rejected(f"This value must be {rule}.", param=name)
        return number


@dataclass(frozen=True, slots=True)
class Percentage:
    """Decimal number between two bounds, with at most four decimals."""

    above: float = -1

    def read(self, value: Any, name: str) -> float:
        if not isinstance(value, str) or not PERCENTAGE.fullmatch(value):
            raise rejected(f"Invalid decimal: {value}", param=name)
        if not self.above < float(value) <= 100:
            raise rejected("This value must be between 0 and 100.", param=name)
        return float(value)


@dataclass(frozen=True, slots=True)
class Boolean:
    """Boolean: `true` or `false`."""

    def read(self, value: Any, name: str) -> bool:
        if value not in ("true", "false"):
            raise rejected(f"Invalid boolean: {value}", param=name)
        return bool(value == "true")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a fixed set of words."""

    words: tuple[str, ...]

    def read(self, value: Any, name: str) -> str:
        if value == "":
            raise _empty(name)
        if value not in self.words:
            *others, last = self.words
            allowed = f"{', '.join(others)} or {last}" if others else last
            raise rejected(f"Invalid {name}: must be one of {allowed}", param=name)
        return str(value)


@dataclass(frozen=True, slots=True)
class Array:
    """List of values of one type."""

    of: Kind

    def read(self, value: Any, name: str) -> list[Any]:
        if value == "":
            return []
        if not isinstance(value, dict) or not all(map(INDEX.fullmatch, value)):
            raise rejected("Invalid array", param=name)
        return [
            self.of.read(value[key], f"{name}[{key}]") for key in sorted(value, key=int)
        ]


@dataclass(frozen=True, slots=True)
class Hash:
    """Nested object; `unset` allows "" and reads it as None."""

    fields: Mapping[str, Kind]
    required: tuple[str, ...] = ()
    unset: bool = False

    def read(self, value: Any, name: str) -> dict[str, Any] | None:
        if value == "" and self.unset:
            return None
        _require_hash(value, name)
        return read_fields(value, self.fields, self.required, prefix=name)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata: a value of "" unsets its key, "" instead of a hash unsets all keys."""

    def read(self, value: Any, name: str) -> dict[str, str] | None:
        if value == "":
            return None
        _require_hash(value, name)
        for key, text in value.items():
            problem = self._problem(key, text)
            if problem:
                raise rejected(problem, param=f"{name}[{key}]")
        return dict(value)

    def _problem(self, key: str, text: Any) -> str | None:
        if not isinstance(text, str):
            return "Metadata values must be strings."
        if len(key) > METADATA_KEY_LENGTH:
            return f"Metadata keys can be at most {METADATA_KEY_LENGTH} characters."
        if len(text) > METADATA_VALUE_LENGTH:
            return (
                f"Metadata values can have up to {METADATA_VALUE_LENGTH} characters, "
                f"but you passed in a value that is {len(text)} characters."
            )
        return None


@dataclass(frozen=True, slots=True)
class Range:
    """Timestamp, or a hash with `gt`, `gte`, `lt`, `lte`."""

    def read(self, value: Any, name: str) -> dict[str, int]:
        if isinstance(value, dict):
            bounds = dict.fromkeys(("gt", "gte", "lt", "lte"), Integer())
            return read_fields(value, bounds, prefix=name)
        timestamp = Integer().read(value, name) or 0
        return {"gte": timestamp, "lte": timestamp}


@dataclass(frozen=True, slots=True)
class Shape:
    """Parameters of an endpoint; all endpoints accept `expand`."""

    fields: Mapping[str, Kind] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def read(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the parsed parameters. Raises a 400."""
        return read_fields(values, {**self.fields, "expand": EXPAND}, self.required)


EXPAND = Array(Text())
PAGING: dict[str, Kind] = {
    "limit": Integer(1, 100),
    "starting_after": Text(),
    "ending_before": Text(),
}


def listing(**filters: Kind) -> Shape:
    """Return the Shape of a list endpoint with filters."""
    return Shape({**PAGING, **filters})


def read_fields(
    values: dict[str, Any],
    fields: Mapping[str, Kind],
    required: tuple[str, ...] = (),
    prefix: str = "",
) -> dict[str, Any]:
    """Return the parsed fields that are present. Raises a 400."""

    def path(key: str) -> str:
        return f"{prefix}[{key}]" if prefix else key

    if unknown := [path(key) for key in values if key not in fields]:
        plural = "s" if len(unknown) > 1 else ""
        raise rejected(
            f"Received unknown parameter{plural}: {', '.join(unknown)}",
            param=unknown[0],
            code="parameter_unknown",
        )
    if absent := [path(key) for key in required if key not in values]:
        raise rejected(
            f"Missing required param: {absent[0]}.",
            param=absent[0],
            code="parameter_missing",
        )
    return {key: fields[key].read(value, path(key)) for key, value in values.items()}


def _empty(name: str) -> StripeError:
    return rejected(
        f"You passed an empty string for '{name}'. We assume empty values are an "
        f"attempt to unset a parameter; however '{name}' cannot be unset. You "
        f"should remove '{name}' from your request or supply a non-empty value.",
        param=name,
        code="parameter_invalid_empty",
    )


def _require_hash(value: Any, name: str) -> None:
    if not isinstance(value, dict):
        raise rejected("Invalid object", param=name)
