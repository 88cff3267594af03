"""Fields of Stripe's objects: required, optional, or of several forms."""

from datetime import UTC, datetime
from typing import Any, overload


def optional(found: Any, *names: str) -> Any:
    """Return a nested field; None if Stripe left it or its parents out, or sent null.

    For optional fields only: without a required one the answer is unreadable.
    """
    for name in names:
        found = getattr(found, name, None)
    return found


def optional_text(found: Any, *names: str) -> str:
    return optional(found, *names) or ""


def read_text(found: Any, name: str) -> str:
    """Return a required text field. Raises AttributeError or TypeError without it."""
    value = getattr(found, name)
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}")
    return value


def read_id(reference: Any) -> str:
    """Return the id of a reference, expanded or not; "" for None."""
    return str(getattr(reference, "id", reference) or "")


def read_metadata(found: Any) -> dict[str, str]:
    """Return the metadata of an object, empty if it has none."""
    metadata = optional(found, "metadata")
    return metadata.to_dict() if metadata else {}


@overload
def to_datetime(seconds: int) -> datetime: ...
@overload
def to_datetime(seconds: None) -> None: ...
def to_datetime(seconds: int | None) -> datetime | None:
    """Return a time of Stripe's, in Unix seconds; None for None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
