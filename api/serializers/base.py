"""Base classes of request bodies."""

from typing import Any

from rest_framework import serializers

from caravel.core.exceptions import UnknownField


class StrictSerializer(serializers.Serializer[Any]):
    """A request body that may not contain unknown fields."""

    def to_internal_value(self, data: Any) -> Any:
        # DRF ignores unknown fields: a typo in an optional one would look like success.
        if isinstance(data, dict) and data.keys() - self.fields.keys():
            names = ", ".join(sorted(self.fields)) or "none"
            raise UnknownField(f"There is an unknown field; allowed are: {names}.")
        return super().to_internal_value(data)


class EmptySerializer(StrictSerializer):
    """No body, or an empty one."""
