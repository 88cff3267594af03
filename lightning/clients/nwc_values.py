"""Readers of single values in wallets' messages, which are of any type and unit."""

import re
from datetime import UTC, datetime

from caravel.core.redaction import redact

#: Possibly a preimage or a key.
_LONG_HEX = re.compile(r"[0-9a-fA-F]{64,}")
#: The Unix times between which a number is in seconds (2001 to 5138): more than that is
#: in milliseconds or smaller units, less is no time of a payment.
_EARLIEST, _LATEST = 10**9, 10**11


def sanitize(value: object) -> str:
    """Return a wallet's text as one short line, with secrets removed."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    printable = "".join(c if c.isprintable() else "?" for c in text[:1_000])
    return _LONG_HEX.sub("…", redact(printable))[:240]


def shorten(value: object) -> str:
    """Return a value of any type in at most 40 characters, "" for null."""
    if value is None:
        return ""
    is_scalar = isinstance(value, str | int | float)
    return sanitize(str(value) if is_scalar else f"a {type(value).__name__}")[:40]


def read_word(value: object) -> str:
    """Return a word in lower case, "" for null, "?" for what is not text."""
    if value is None:
        return ""
    return value.strip().lower() if isinstance(value, str) else "?"


def read_words(value: object) -> frozenset[str]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list):
        return frozenset()
    return frozenset(word for word in words if isinstance(word, str))


def read_number_from_zero(value: object) -> int | None:
    """Return a whole number from 0, also if it is written as text or as 1000.0."""
    number = _number(value)
    if number is None or number < 0 or number != int(number):
        return None
    return int(number)


def read_time(value: object) -> datetime | None:
    """Return a time from Unix seconds, a smaller unit, or ISO 8601; None without one.

    Not all wallets send whole seconds: ZEUS divides milliseconds by 1000.
    https://github.com/ZeusLN/zeus/issues/4036
    """
    seconds = _unix_time(value)
    while seconds is not None and seconds >= _LATEST:
        seconds /= 1000
    if seconds is None or seconds < _EARLIEST:
        return None
    return datetime.fromtimestamp(seconds, UTC)


def has_time(value: object) -> bool:
    """Return whether there is a time, readable or not: neither null nor Go's zero."""
    if value in (None, False, ""):
        return False
    seconds = _unix_time(value)
    return seconds is None or seconds > 0


def _unix_time(value: object) -> float | None:
    number = _number(value)
    if number is not None or not isinstance(value, str):
        return number
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _number(value: object) -> int | float | None:
    """Return a finite number, also from text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 2**63 else None
