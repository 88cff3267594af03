"""Removal of optional fields from JSON, one at a time or all at once."""

from collections.abc import Iterable, Iterator
from typing import Any, get_args

import stripe

from sandbox.stripe.api.context import clone
from sandbox.tests.support.stripe import types
from sandbox.tests.support.stripe.optional_fields import is_optional

Path = tuple[str | int, ...]


def optional_paths(annotation: Any, value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of each present field that stripe-python annotates as optional.

    Parents come before the fields inside them.
    """
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from optional_paths(annotation, item, (*path, number))
    elif isinstance(value, dict) and value.get("object") == "list":
        yield from optional_paths(annotation, value["data"], (*path, "data"))
    elif isinstance(value, dict):
        for cls in _classes(annotation):
            yield from _paths_in(cls, value, path)


def without(value: Any, paths: Iterable[Path]) -> Any:
    """Return a copy of JSON without the fields at these paths."""
    copy = clone(value)
    # Fields before their parents.
    for *parents, name in sorted(set(paths), key=len, reverse=True):
        owner = copy
        for step in parents:
            owner = owner[step]
        del owner[name]
    return copy


def _paths_in(cls: type, value: dict[str, Any], path: Path) -> Iterator[Path]:
    for name, annotation in types.resolved(cls).items():
        if name in value:
            if is_optional(annotation):
                yield (*path, name)
            yield from optional_paths(annotation, value[name], (*path, name))


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and issubclass(annotation, stripe.StripeObject):
        yield annotation
    for argument in get_args(annotation):
        yield from _classes(argument)
