"""Access to the admin: throttled and logged logins, and headers of its pages."""

import hashlib
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.exceptions import ValidationError
from django.dispatch import receiver
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from unfold.forms import AuthenticationForm

from caravel.core.exceptions import CaravelError
from caravel.core.web.throttling import client_address, concurrency_limit, throttle

logger = structlog.get_logger(__name__)

# Alpine, on which the pages are built, evaluates expressions in attributes and sets
# inline styles. No page has an inline script.
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class AdminHeadersMiddleware:
    """Middleware that adds a Content-Security-Policy to the pages of the admin."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._get_response(request)
        if request.path.startswith(reverse("admin:index")):
            response["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
            response["Referrer-Policy"] = "same-origin"
        return response


class LoginForm(AuthenticationForm):
    """Login form of the admin that throttles attempts by address and by name."""

    def clean(self) -> dict[str, Any]:
        # Before the password is hashed, which takes most of a second of CPU time, also
        # for a name that does not exist.
        try:
            self._throttle()
            with concurrency_limit("admin login"):
                cleaned: dict[str, Any] = super().clean()
        except CaravelError as exc:
            logger.warning("admin_login_refused", code=exc.code, **self._caller())
            raise ValidationError(exc.message, code=exc.code) from exc
        return cleaned

    def _throttle(self) -> None:
        # Hashed, since a name of any length becomes part of a key.
        name = str(self.cleaned_data.get("username", ""))
        digest = hashlib.sha256(name.encode()).hexdigest()
        address = self._caller()["address"]
        throttle(settings.LOGIN_RATE_PER_ADDRESS, "admin login", "address", address)
        throttle(settings.LOGIN_RATE_PER_NAME, "admin login", "name", digest)

    def _caller(self) -> dict[str, str]:
        return {"address": client_address(self.request)}


@receiver(user_login_failed, dispatch_uid="caravel.login_failed")
def log_failed_login(
    sender: Any, credentials: dict[str, Any], request: HttpRequest | None, **kwargs: Any
) -> None:
    """Log who failed to log in, by name only if there is such a user."""
    # Any other name may be a password that was typed into the wrong field.
    users = get_user_model().objects.filter(username=credentials.get("username"))
    name = users.values_list("username", flat=True).first()
    address = client_address(request) if request else "unknown"
    logger.warning("admin_login_failed", user=name or "unknown", address=address)


@receiver(user_logged_in, dispatch_uid="caravel.logged_in")
def log_login(sender: Any, user: Any, request: HttpRequest, **kwargs: Any) -> None:
    """Log who has logged in, and from where."""
    name, address = user.get_username(), client_address(request)
    logger.info("admin_login", user=name, address=address)
