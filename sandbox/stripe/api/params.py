"""Declaration and validation of the parameters of an endpoint.

Messages and codes follow Stripe's docs page on error codes (`parameter_unknown`,
`parameter_missing`, `parameter_invalid_empty`, `parameter_invalid_integer`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sandbox.stripe.api.errors import rejected

METADATA_KEYS = 50
METADATA_KEY_LENGTH = 40
METADATA_VALUE_LENGTH = 500
# ASCII: otherwise `\d` matches the digits of other scripts, which `int` accepts too.
WHOLE_NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)
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
        if value == "":
            _check_empty(name, allowed=self.unset)
            return None
        if len(value) > self.max_length:
            raise rejected(
                f"Invalid string: {value[:20]}...; must be at most "
                f"{self.max_length} characters",
                param=name,
            )
        return value


@dataclass(frozen=True, slots=True)
class Integer:
    """Integer within optional bounds."""

    minimum: int | None = None
    maximum: int | None = None

    def read(self, value: Any, name: str) -> int:
        if not isinstance(value, str) or not WHOLE_NUMBER.fullmatch(value):
            raise rejected(
                f"Invalid integer: {value}",
                param=name,
                code="parameter_invalid_integer",
            )
        number = int(value)
        if self.minimum is not None and number < self.minimum:
            raise _out_of_bounds(name, f"greater than or equal to {self.minimum}")
        if self.maximum is not None and number > self.maximum:
            raise _out_of_bounds(name, f"less than or equal to {self.maximum}")
        return number


@dataclass(frozen=True, slots=True)
class Boolean:
    """Boolean: `true` or `false`."""

    def read(self, value: Any, name: str) -> bool:
        if value not in ("true", "false"):
            raise rejected(f"Invalid boolean: {value}", param=name)
        return bool(value == "true")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a fixed set of words; `unset` allows "" and reads it as None."""

    words: tuple[str, ...]
    unset: bool = False

    def read(self, value: Any, name: str) -> str | None:
        if value == "":
            _check_empty(name, allowed=self.unset)
            return None
        if value not in self.words:
            allowed = f"{', '.join(self.words[:-1])} or {self.words[-1]}"
            raise rejected(f"Invalid {name}: must be one of {allowed}", param=name)
        return str(value)


@dataclass(frozen=True, slots=True)
class Array:
    """List of values of one type."""

    of: Kind
    maximum: int | None = None

    def read(self, value: Any, name: str) -> list[Any]:
        if value == "":
            return []
        if not isinstance(value, dict) or not all(map(INDEX.fullmatch, value)):
            raise rejected("Invalid array", param=name)
        if self.maximum is not None and len(value) > self.maximum:
            raise rejected(
                f"Array {name} exceeded maximum {self.maximum} allowed elements.",
                param=name,
            )
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
        if not isinstance(value, dict):
            raise rejected("Invalid object", param=name)
        return read_fields(value, self.fields, self.required, prefix=name)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata: a value of "" unsets its key, "" instead of a hash unsets all keys."""

    def read(self, value: Any, name: str) -> dict[str, str] | None:
        if value == "":
            return None
        if not isinstance(value, dict):
            raise rejected("Invalid object", param=name)
        for key, text in value.items():
            _check_metadata(key, text, f"{name}[{key}]")
        return dict(value)


@dataclass(frozen=True, slots=True)
class Range:
    """Timestamp, or a hash with `gt`, `gte`, `lt`, `lte`."""

    def read(self, value: Any, name: str) -> dict[str, int]:
        if not isinstance(value, dict):
            timestamp = Integer().read(value, name)
            return {"gte": timestamp, "lte": timestamp}
        return read_fields(
            value,
            {bound: Integer() for bound in ("gt", "gte", "lt", "lte")},
            prefix=name,
        )


@dataclass(frozen=True, slots=True)
class Either:
    """Fixed word, or a value of another type (`trial_end=now`)."""

    words: tuple[str, ...]
    other: Kind

    def read(self, value: Any, name: str) -> Any:
        return value if value in self.words else self.other.read(value, name)


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


def shape(
    required: Sequence[str] = (), *groups: Mapping[str, Kind], **fields: Kind
) -> Shape:
    """Return a Shape with the fields and groups of fields."""
    merged: dict[str, Kind] = {}
    for group in groups:
        merged.update(group)
    return Shape({**merged, **fields}, tuple(required))


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
    _reject_unknown([_path(prefix, key) for key in values if key not in fields])
    for key in required:
        if key not in values:
            path = _path(prefix, key)
            raise rejected(
                f"Missing required param: {path}.",
                param=path,
                code="parameter_missing",
            )
    return {
        key: fields[key].read(value, _path(prefix, key))
        for key, value in values.items()
    }


def _reject_unknown(names: list[str]) -> None:
    if names:
        plural = "s" if len(names) > 1 else ""
        raise rejected(
            f"Received unknown parameter{plural}: {', '.join(names)}",
            param=names[0],
            code="parameter_unknown",
        )


def _path(prefix: str, key: str) -> str:
    return f"{prefix}[{key}]" if prefix else key


def _check_empty(name: str, *, allowed: bool) -> None:
    if not allowed:
        raise rejected(
            f"You passed an empty string for '{name}'. We assume empty values are an "
            f"attempt to unset a parameter; however '{name}' cannot be unset. You "
            f"should remove '{name}' from your request or supply a non-empty value.",
            param=name,
            code="parameter_invalid_empty",
        )


def _out_of_bounds(name: str, rule: str) -> Exception:
    return rejected(f"This value must be {rule}.", param=name)


def _check_metadata(key: str, text: Any, name: str) -> None:
    if not isinstance(text, str):
        raise rejected("Metadata values must be strings.", param=name)
    if len(key) > METADATA_KEY_LENGTH:
        raise rejected(
            f"Metadata keys can be at most {METADATA_KEY_LENGTH} characters.",
            param=name,
        )
    if len(text) > METADATA_VALUE_LENGTH:
        raise rejected(
            f"Metadata values can have up to {METADATA_VALUE_LENGTH} characters, but "
            f"you passed in a value that is {len(text)} characters.",
            param=name,
        )
