"""How the API describes itself (OpenAPI 3.1)."""

from drf_spectacular.openapi import AutoSchema


class Schema(AutoSchema):
    """What drf-spectacular finds out of a view, in our envelope."""
