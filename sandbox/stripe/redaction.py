"""What must not be kept of a request: keys, card numbers and their codes."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"
# Parameters whose value is a secret or a number that pays, wherever they stand.
NAMES = frozenset({"account_number", "cvc", "number", "secret"})
KEY = re.compile(r"\b(?:sk|rk|whsec)_\w+")
# Thirteen to nineteen digits, perhaps grouped.
LONG_NUMBER = re.compile(r"\b\d(?:[ -]?\d){12,18}\b", re.ASCII)
SHORTEST = 9


def redact(value: Any) -> Any:
    """Return what a form carried, without what pays or opens."""
    if isinstance(value, Mapping):
        return {
            redact_text(name): HIDDEN if name in NAMES else redact(inner)
            for name, inner in value.items()
        }
    return redact_text(value) if isinstance(value, str) else value


def redact_text(text: str) -> str:
    """Return the text without API keys, signing secrets and card numbers."""
    if len(text) < SHORTEST:
        return text
    return LONG_NUMBER.sub(_hide_card, KEY.sub(HIDDEN, text))


def _hide_card(found: re.Match[str]) -> str:
    digits = [int(digit) for digit in found[0] if digit.isdigit()]
    # The last digit of a card number is made so that this sum ends in zero (Luhn).
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    is_card = (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
    return HIDDEN if is_card else found[0]
