"""Health checks for load balancers and orchestrators."""

from collections.abc import Callable

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

logger = structlog.get_logger(__name__)


class ProbeMiddleware:
    """Middleware that answers `/healthz` and `/readyz` before any other middleware."""

    # A load balancer probes every few seconds, by IP address and without https. So
    # ALLOWED_HOSTS, the redirect to https and the request log must not apply.

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        view = {"/healthz": healthz, "/readyz": readyz}.get(request.path)
        return view(request) if view else self._get_response(request)


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Return 200 if this process serves requests."""
    return JsonResponse({"data": "alive", "code": "ok"})


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if all PROBES succeed, otherwise 503 with the names of the others."""
    unavailable = [name for name, probe in PROBES.items() if not probe()]
    if unavailable:
        error = f"Not ready: {', '.join(unavailable)}."
        return JsonResponse({"error": error, "code": "not-ready"}, status=503)
    return JsonResponse({"data": sorted(PROBES), "code": "ok"})


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as exc:
        logger.warning("probe_failed", probe="database", error=str(exc))
        return False
    return True


def _broker_answers() -> bool:
    timeouts = {"socket_timeout": 2, "socket_connect_timeout": 2}
    try:
        with redis.from_url(settings.REDIS_URL, **timeouts) as client:
            return bool(client.ping())
    except redis.RedisError as exc:
        logger.warning("probe_failed", probe="broker", error=str(exc))
        return False


#: Apps add their own; a probe must not wait for another service.
PROBES: dict[str, Callable[[], bool]] = {
    "database": _database_answers,
    "broker": _broker_answers,
}
