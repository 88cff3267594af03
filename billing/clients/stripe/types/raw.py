"""Objects of Stripe's JSON that are not turned into objects of the SDK.

The SDK builds an object of each value, which costs more than all else that is done
with a list of thousands.
"""

from collections.abc import Mapping
from typing import Any


class RawObject:
    """Object of a JSON answer whose fields are attributes, as those of the SDK's."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return _wrap(self._fields[name])
        except KeyError:
            raise AttributeError(name) from None

    def to_dict(self) -> dict[str, Any]:
        return dict(self._fields)


def _wrap(value: Any) -> Any:
    if isinstance(value, dict):
        return RawObject(value)
    return [_wrap(each) for each in value] if isinstance(value, list) else value
