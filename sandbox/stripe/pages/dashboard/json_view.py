"""View of an object as JSON, with links on ids and dates after timestamps."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sandbox.common.html.elements import Child, Html, join, tag
from sandbox.stripe.pages.dashboard.selection import find_object
from sandbox.stripe.pages.text import long_moment, object_link
from sandbox.stripe.store.records import Store

INDENT = "  "
TIMES = re.compile(r"(_at|_end|_start|_date|_anchor|^created|^updated|^start|^end)$")


def json_view(store: Store, value: Any) -> Html:
    """Return the value as JSON on several lines."""
    return tag("pre", tag("code", _value(store, value, "", "\n")), class_="json")


def _value(store: Store, value: Any, key: str, line: str) -> Child:
    if isinstance(value, Mapping) and value:
        items = [
            _pair(store, name, item, line + INDENT) for name, item in value.items()
        ]
        return _block("{", items, "}", line)
    if isinstance(value, list) and value:
        items = [_value(store, item, "", line + INDENT) for item in value]
        return _block("[", items, "]", line)
    if isinstance(value, str):
        return _text(store, value)
    return (tag("span", json.dumps(value), class_="value"), _date(key, value))


def _pair(store: Store, name: str, item: Any, line: str) -> Child:
    label = tag("span", json.dumps(name, ensure_ascii=False), class_="key")
    return (label, ": ", _value(store, item, name, line))


def _block(start: str, items: list[Child], end: str, line: str) -> Html:
    lines = [
        (line, INDENT, item, "," if index < len(items) else "")
        for index, item in enumerate(items, 1)
    ]
    return join((start, lines, line, end))


def _text(store: Store, value: str) -> Child:
    text = json.dumps(value, ensure_ascii=False)
    # The underscore saves most look-ups of strings that are no ids.
    if "_" in value and find_object(store, value) is not None:
        return object_link(value, text)
    return tag("span", text, class_="text")


def _date(key: str, value: Any) -> Html | None:
    if type(value) is not int or not value or not TIMES.search(key):
        return None
    return tag("span", f" {long_moment(value)}", class_="date")
