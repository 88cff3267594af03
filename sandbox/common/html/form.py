"""Parsing of form bodies and query strings."""

from collections.abc import Mapping
from typing import TypeAlias
from urllib.parse import parse_qs

Form: TypeAlias = Mapping[str, str]


def read(text: str) -> Form:
    """Return the last value of each field; empty values are included."""
    fields = parse_qs(text, keep_blank_values=True)
    return {name: values[-1] for name, values in fields.items()}
