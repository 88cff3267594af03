"""An object as JSON, with a link at each id and the date beside each time."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sandbox.stripe.pages.html import Child, Html, join, tag
from sandbox.stripe.pages.scope import find_object
from sandbox.stripe.pages.text import long_moment, object_link
from sandbox.stripe.store import Store

INDENT = "  "
TIMES = re.compile(r"(_at|_end|_start|_date|_anchor|^created|^updated|^start|^end)$")


def json_view(store: Store, value: Any) -> Html:
    """Return the value as JSON over several lines."""
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
        (line, INDENT, item, "," if at < len(items) else "")
        for at, item in enumerate(items, 1)
    ]
    return join((start, lines, line, end))


def _text(store: Store, value: str) -> Child:
    shown = json.dumps(value, ensure_ascii=False)
    if "_" in value and find_object(store, value) is not None:
        return object_link(value, shown)
    return tag("span", shown, class_="text")


def _date(key: str, value: Any) -> Html | None:
    if type(value) is not int or not value or not TIMES.search(key):
        return None
    return tag("span", f" {long_moment(value)}", class_="date")
