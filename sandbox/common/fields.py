"""Validation of the fields of a form or a JSON object."""

import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

Word = TypeVar("Word", bound=str)
#: All the sats that will ever exist.
MAX_SATS = 21_000_000 * 100_000_000
MAX_TEXT_LENGTH = 4_000
INTEGER = re.compile(r"\d{1,16}", re.ASCII)
#: Two weeks.
MAX_SECONDS = 14 * 86_400.0


class BadField(ValueError):
    """An invalid value; the message says what is expected."""


class Fields:
    """Values by name, numbers or texts; an empty text counts as missing."""

    def __init__(self, values: Mapping[str, Any], known: Collection[str]) -> None:
        """Raise BadField for a name that is not known."""
        if unknown := sorted(values.keys() - set(known)):
            raise BadField(f"unknown field: {', '.join(unknown)}")
        self._values = {k: v for k, v in values.items() if v is not None and v != ""}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text, stripped. Raises BadField if it is missing or no text."""
        value = self._values.get(name, default)
        if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH:
            raise BadField(f"{name} must be a text")
        return value.strip()

    def choice(
        self, name: str, words: Iterable[Word], default: Word | None = None
    ) -> Word:
        """Return one of the words. Raises BadField."""
        value = self._values.get(name, default)
        for word in words:
            if word == value:
                return word
        raise BadField(f"{name} must be one of {', '.join(words)}")

    def integer(
        self, name: str, default: int | None = None, *, minimum: int = 0
    ) -> int:
        """Return an integer. Raises BadField."""
        value = self._values.get(name, default)
        if isinstance(value, str) and INTEGER.fullmatch(value.strip()):
            value = int(value)
        if type(value) is not int or not minimum <= value <= MAX_SATS:
            raise BadField(f"{name} must be an integer, at least {minimum}")
        return value

    def seconds(self, name: str, default: float) -> float:
        """Return a number of seconds. Raises BadField."""
        value = self._decimal(name, Decimal(default))
        if not 0 <= value <= MAX_SECONDS:
            raise BadField(f"{name} must be a number from 0 to {MAX_SECONDS:.0f}")
        return float(value)

    def positive(self, name: str, default: Decimal | None = None) -> Decimal:
        """Return a positive decimal. Raises BadField."""
        value = self._decimal(name, default)
        if not 0 < value < 10**15:
            raise BadField(f"{name} must be a number above 0")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return a boolean. Raises BadField."""
        value = {"true": True, "false": False}.get(
            str(self._values.get(name, default)).lower()
        )
        if value is None:
            raise BadField(f"{name} must be true or false")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; a single text becomes a list. Raises BadField."""
        value = self._values.get(name, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise BadField(f"{name} must be a list of texts")
        return values

    def integers(self, name: str) -> list[int]:
        """Return a list of integers; a text like "1, 2" is split. Raises BadField."""
        value = self._values.get(name, [])
        values = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
        if not isinstance(values, list):
            raise BadField(f"{name} must be a list of integers")
        return [Fields({name: item}, [name]).integer(name) for item in values]

    def _decimal(self, name: str, default: Decimal | None) -> Decimal:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(
            value, str | int | float | Decimal
        ):
            raise BadField(f"{name} must be a number")
        try:
            number = Decimal(str(value).strip())
        except InvalidOperation:
            raise BadField(f"{name} must be a number") from None
        if not number.is_finite():
            raise BadField(f"{name} must be a number")
        return number
