"""Who may call a view."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request


class Closed(BasePermission):
    """The permission of a view that declares none: nobody."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False
