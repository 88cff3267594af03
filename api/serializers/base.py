"""What the serializers share."""

from typing import Any

from rest_framework import serializers

from caravel.core.exceptions import UnknownField


class StrictSerializer(serializers.Serializer[Any]):
    """A body in which nothing is overlooked that is not known."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and data.keys() - self.fields.keys():
            names = ", ".join(sorted(self.fields)) or "none"
            raise UnknownField(f"A field is unknown; those to be set are: {names}.")
        return super().to_internal_value(data)


class EmptySerializer(StrictSerializer):
    """No body, or an empty one."""
