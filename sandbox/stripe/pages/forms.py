"""What a form, or a query, holds: the last value of each name."""

from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import parse_qs

Form: TypeAlias = Mapping[str, str]


def read(text: str) -> Form:
    """Return the fields that were sent; an empty one is kept as such."""
    found = parse_qs(text, keep_blank_values=True)
    return {name: values[-1] for name, values in found.items()}
