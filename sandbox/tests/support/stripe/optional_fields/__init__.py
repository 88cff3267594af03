"""Fields that Stripe may leave out of an object, and those that it may send as null.

stripe-python annotates both as Optional. stripe-node, made from the same
specification, tells them apart: `field?: T` may be absent and is never null,
`field: T | null` is never absent. `fields.txt` has the former; those that may be both
end in a question mark.
"""

from functools import cache
from pathlib import Path
from typing import Any, get_args

FILE = Path(__file__).parent / "fields.txt"


def may_be_absent(cls: type, field: str) -> bool:
    """Return whether Stripe may leave out a field of a class of stripe-python."""
    return field in read().get(key(cls), {})


def may_be_null(cls: type, field: str, annotation: Any) -> bool:
    """Return whether Stripe may send the field of this annotation as null."""
    return is_optional(annotation) and read().get(key(cls), {}).get(field, True)


def is_optional(annotation: Any) -> bool:
    """Return whether an annotation includes None."""
    return type(None) in get_args(annotation)


def key(cls: type) -> str:
    """Return the name of a class in the file, with its package in the SDK."""
    return ".".join((*cls.__module__.split(".")[1:-1], cls.__qualname__))


def api_version() -> str:
    """Return the API version of the file."""
    return FILE.read_text().splitlines()[0].split()[-1]


@cache
def read() -> dict[str, dict[str, bool]]:
    """Return whether each optional field may be null, by class and field."""
    lines = (line for line in FILE.read_text().splitlines() if line[0] != "#")
    rows = (line.partition(": ") for line in lines)
    return {
        cls: {name.rstrip("?"): name.endswith("?") for name in names.split()}
        for cls, _, names in rows
    }
