"""Validation of the fields of a JSON object or a form."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

T = TypeVar("T")
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
    """Values by name, of a JSON object or of a form.

    A form has only texts: numbers are read from them, and an empty text counts as
    missing. A JSON object has types; null is a value, read with `optional`.
    """

    def __init__(
        self, values: Mapping[str, Any], known: Collection[str], *, form: bool = False
    ) -> None:
        """Raise BadField for a name that is not known."""
        if unknown := sorted(values.keys() - set(known)):
            raise BadField(f"unknown field: {', '.join(unknown)}")
        self._form = form
        #: The values as they are given.
        self.values = {
            name: value for name, value in values.items() if not form or value != ""
        }

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def optional(
        self, read: Callable[..., T], name: str, *rule: Any, **rules: Any
    ) -> T | None:
        """Return the value as read by one of the other methods, None if missing."""
        if self.values.get(name) is None:
            return None
        return read(name, *rule, **rules)

    def text(
        self, name: str, default: str | None = None, *, maximum: int = MAX_TEXT_LENGTH
    ) -> str:
        """Return a text, stripped. Raises BadField if it is missing or no text."""
        value = self.values.get(name, default)
        if not isinstance(value, str) or len(value) > maximum:
            raise BadField(f"{name} must be a text")
        return value.strip()

    def choice(
        self, name: str, words: Iterable[Word], default: Word | None = None
    ) -> Word:
        """Return one of the words. Raises BadField."""
        value = self.values.get(name, default)
        for word in words:
            if word == value:
                return word
        raise BadField(f"{name} must be one of {', '.join(words)}")

    def integer(
        self,
        name: str,
        default: int | None = None,
        *,
        minimum: int = 0,
        maximum: int = MAX_SATS,
    ) -> int:
        """Return an integer. Raises BadField."""
        value = self.values.get(name, default)
        if self._form and isinstance(value, str) and INTEGER.fullmatch(value.strip()):
            value = int(value)
        if type(value) is not int or not minimum <= value <= maximum:
            limit = f"from {minimum} to {maximum}"
            rule = f"at least {minimum}" if maximum == MAX_SATS else limit
            raise BadField(f"{name} must be an integer, {rule}")
        return value

    def seconds(
        self,
        name: str,
        default: float,
        *,
        minimum: float = 0.0,
        maximum: float = MAX_SECONDS,
    ) -> float:
        """Return a number of seconds. Raises BadField."""
        value = self._decimal(name, default, text=self._form)
        if not minimum <= value <= maximum:
            rule = f"from {minimum:.0f} to {maximum:.0f}"
            raise BadField(f"{name} must be a number {rule}")
        return float(value)

    def positive(
        self, name: str, default: float | Decimal | None = None, maximum: int = 10**15
    ) -> Decimal:
        """Return a positive decimal, exact if given as a text. Raises BadField."""
        value = self._decimal(name, default, text=True)
        if not 0 < value <= maximum:
            raise BadField(f"{name} must be a number above 0, at most {maximum}")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return a boolean. Raises BadField."""
        value = self.values.get(name, default)
        if self._form:
            value = {"true": True, "false": False}.get(str(value).lower())
        if not isinstance(value, bool):
            raise BadField(f"{name} must be true or false")
        return value

    def mapping(self, name: str, default: Mapping[str, Any]) -> dict[str, Any]:
        """Return a JSON object. Raises BadField."""
        value = self.values.get(name, default)
        if not isinstance(value, Mapping):
            raise BadField(f"{name} must be a JSON object")
        return dict(value)

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; a single text becomes a list. Raises BadField."""
        value = self.values.get(name, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise BadField(f"{name} must be a list of texts")
        return values

    def integers(self, name: str) -> list[int]:
        """Return a list of integers; a form's "1, 2" is split. Raises BadField."""
        value = self.values.get(name, [])
        if self._form and isinstance(value, str):
            value = re.split(r"[\s,]+", value.strip())
        if not isinstance(value, list):
            raise BadField(f"{name} must be a list of integers")
        return [
            Fields({name: item}, [name], form=self._form).integer(name)
            for item in value
        ]

    def _decimal(
        self, name: str, default: float | Decimal | None, *, text: bool
    ) -> Decimal:
        value = self.values.get(name, default)
        types = (int, float, Decimal, str) if text else (int, float, Decimal)
        try:
            if isinstance(value, bool) or not isinstance(value, types):
                raise InvalidOperation
            number = Decimal(str(value).strip())
        except InvalidOperation:
            raise BadField(f"{name} must be a number") from None
        if not number.is_finite():
            raise BadField(f"{name} must be a number")
        return number
