"""Redaction of API keys, card numbers and card codes in logged requests."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"
# Parameters, at any depth, whose value is a secret or a card or account number.
SECRET_PARAMS = frozenset({"account_number", "cvc", "number", "secret"})
KEY = re.compile(r"\b(?:sk|rk|whsec)_\w+")
# Thirteen to nineteen digits, possibly in groups.
LONG_NUMBER = re.compile(r"\b\d(?:[ -]?\d){12,18}\b", re.ASCII)
MIN_LENGTH = 9


def redact(value: Any) -> Any:
    """Return form parameters without secrets and card numbers."""
    if isinstance(value, Mapping):
        return {
            redact_text(name): HIDDEN if name in SECRET_PARAMS else redact(inner)
            for name, inner in value.items()
        }
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """Return a text without API keys, signing secrets and card numbers."""
    if len(text) < MIN_LENGTH:
        return text
    return LONG_NUMBER.sub(_hide_card, KEY.sub(HIDDEN, text))


def _hide_card(number: re.Match[str]) -> str:
    digits = [int(digit) for digit in number[0] if digit.isdigit()]
    # Luhn checksum: other long numbers, such as timestamps, stay readable.
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    is_card = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return HIDDEN if is_card else number[0]
