"""Checks the parts of an event's data that the handlers rely on."""

import re
from collections.abc import Iterator
from typing import Any

from billing.exceptions import UnreadableEvent

_ID = re.compile(r"[\w.-]{1,255}")
#: Ids in an object of an event; `id` is in all that have a handler.
_REFERENCES = ("customer", "invoice", "charge")


def check_shape(event_type: str, data: dict[str, Any]) -> None:
    """Raise UnreadableEvent if a handler would fail on the data, however often."""
    if faults := sorted(set(_faults(event_type, data))):
        raise UnreadableEvent(f"Not as Stripe documents it: {', '.join(faults)}.")


def _faults(event_type: str, data: dict[str, Any]) -> Iterator[str]:
    sent, previous = data["object"], data.get("previous_attributes")
    yield from _bad_ids(sent)
    if not _is_id(sent.get("id")):
        yield "id"
    if event_type.startswith("credit_note.") and not sent.get("invoice"):
        yield "invoice"
    if previous is None:
        return
    if not isinstance(previous, dict):
        yield "previous_attributes"
        return
    yield from _bad_ids(previous)
    if not isinstance(previous.get("invoice_settings") or {}, dict):
        yield "invoice_settings"


def _bad_ids(values: dict[str, Any]) -> Iterator[str]:
    for name in _REFERENCES:
        if values.get(name) is not None and not _is_id(values[name]):
            yield name


def _is_id(value: object) -> bool:
    return isinstance(value, str) and bool(_ID.fullmatch(value))
