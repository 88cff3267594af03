"""Permission classes of the API's views."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from caravel.core.exceptions import Forbidden


class DenyAll(BasePermission):
    """Default permission: denies every request."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class IsAuthenticated(BasePermission):
    """Allows any signed request. The view itself must check access to objects."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated)


class IsAdmin(BasePermission):
    """Allows callers in ADMIN_PUBKEYS. Raises Forbidden for others."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not getattr(request.user, "is_admin", False):
            raise Forbidden("Only operators of this service may do this.")
        return True
