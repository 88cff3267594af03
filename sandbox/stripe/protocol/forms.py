"""Form decoding: `items[0][id]=x`, `metadata[a]=`, `expand[]=y`."""

import re
from typing import Any
from urllib.parse import parse_qsl

from sandbox.stripe.protocol.errors import rejected

KEY = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")
PART = re.compile(r"\[([^\[\]]*)\]")


def decode(text: str) -> dict[str, Any]:
    """Return nested dicts of strings; lists are dicts keyed by their index.

    Whether `x[0]` is a list or a hash is for the parameter's declaration to say.
    Raises a 400 for a key that contradicts an earlier one.
    """
    decoded: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        match = KEY.match(key)
        if match is None:
            raise rejected(f"Invalid parameter name: {key}", param=key)
        _place(decoded, [match[1], *PART.findall(match[2])], value, key)
    return decoded


def _place(target: dict[str, Any], parts: list[str], value: str, key: str) -> None:
    for part in parts[:-1]:
        target = target.setdefault(part or str(len(target)), {})
        if not isinstance(target, dict):
            raise rejected(f"Invalid hash: {key}", param=parts[0])
    last = parts[-1] or str(len(target))
    if isinstance(target.get(last), dict):
        raise rejected(f"Invalid string: {key}", param=parts[0])
    target[last] = value
