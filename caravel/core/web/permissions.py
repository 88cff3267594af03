"""Who may call a view."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from caravel.core.exceptions import Forbidden


class DenyAll(BasePermission):
    """The permission of a view that declares none: nobody."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return False


class IsAuthenticated(BasePermission):
    """Whoever has signed the request; the view looks after whose things it shows."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user and request.user.is_authenticated)


class IsAdmin(BasePermission):
    """Who is named in ADMIN_PUBKEYS."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not getattr(request.user, "is_admin", False):
            raise Forbidden("This is for the operators of this service.")
        return True
