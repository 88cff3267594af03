"""What a form or a JSON object says, read as what it must be."""

import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

Word = TypeVar("Word", bound=str)
#: More sats than there will ever be are nobody's.
MAX_SATS = 21_000_000 * 100_000_000
MAX_TEXT_LENGTH = 4_000
INTEGER = re.compile(r"\d{1,16}", re.ASCII)
#: Seconds: a fortnight.
MAX_SECONDS = 14 * 86_400.0


class BadField(ValueError):
    """A value that makes no sense; the message says what is expected."""


class Fields:
    """Values by name, numbers or texts; an empty text is as good as none."""

    def __init__(self, values: Mapping[str, Any], known: Collection[str]) -> None:
        """Raise BadField when there is a name that is not known."""
        if unknown := sorted(values.keys() - set(known)):
            raise BadField(f"there is no {', '.join(unknown)} here")
        self._values = {k: v for k, v in values.items() if v is not None and v != ""}

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text. Raises BadField when it is something else, or missing."""
        value = self._values.get(name, default)
        if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH:
            raise BadField(f"{name} is a text")
        return value.strip()

    def choice(
        self, name: str, words: Iterable[Word], default: Word | None = None
    ) -> Word:
        """Return one of the words. Raises BadField."""
        value = self._values.get(name, default)
        for word in words:
            if word == value:
                return word
        raise BadField(f"{name} is one of {', '.join(words)}")

    def integer(
        self, name: str, default: int | None = None, *, minimum: int = 0
    ) -> int:
        """Return a integer number. Raises BadField."""
        value = self._values.get(name, default)
        if isinstance(value, str) and INTEGER.fullmatch(value.strip()):
            value = int(value)
        if type(value) is not int or not minimum <= value <= MAX_SATS:
            raise BadField(f"{name} is a integer number from {minimum}")
        return value

    def seconds(self, name: str, default: float) -> float:
        """Return a number of seconds. Raises BadField."""
        value = self._decimal(name, Decimal(default))
        if not 0 <= value <= MAX_SECONDS:
            raise BadField(f"{name} is a number from 0 to {MAX_SECONDS:.0f}")
        return float(value)

    def positive(self, name: str, default: Decimal | None = None) -> Decimal:
        """Return a decimal above zero. Raises BadField."""
        value = self._decimal(name, default)
        if not 0 < value < 10**15:
            raise BadField(f"{name} is a number above 0")
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """Return a truth value. Raises BadField."""
        value = {"true": True, "false": False}.get(
            str(self._values.get(name, default)).lower()
        )
        if value is None:
            raise BadField(f"{name} is true or false")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of texts, or the one text that is there. Raises BadField."""
        value = self._values.get(name, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise BadField(f"{name} is a list of texts")
        return values

    def integers(self, name: str) -> list[int]:
        """Return a list of integer numbers, or those a text has. Raises BadField."""
        value = self._values.get(name, [])
        values = re.split(r"[\s,]+", value.strip()) if isinstance(value, str) else value
        if not isinstance(values, list):
            raise BadField(f"{name} is a list of integer numbers")
        return [Fields({name: one}, [name]).integer(name) for one in values]

    def _decimal(self, name: str, default: Decimal | None) -> Decimal:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(
            value, str | int | float | Decimal
        ):
            raise BadField(f"{name} is a number")
        try:
            number = Decimal(str(value).strip())
        except InvalidOperation:
            raise BadField(f"{name} is a number") from None
        if not number.is_finite():
            raise BadField(f"{name} is a number")
        return number
