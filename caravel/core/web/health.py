"""Probes for a load balancer or an orchestrator."""

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
    """Answers `/healthz` and `/readyz` before any other middleware.

    A prober calls us by an address of its own choosing, without https, every few
    seconds: neither ALLOWED_HOSTS nor redirects nor the request log are for it.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        view = {"/healthz": healthz, "/readyz": readyz}.get(request.path)
        return view(request) if view else self._get_response(request)


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 while this process serves requests at all."""
    return JsonResponse({"data": "alive", "code": "ok"})


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when database and broker answer, else 503 and which does not."""
    away = [name for name, probe in _PROBES.items() if not probe()]
    if away:
        error = f"No answer from: {', '.join(away)}."
        return JsonResponse({"error": error, "code": "not-ready"}, status=503)
    return JsonResponse({"data": sorted(_PROBES), "code": "ok"})


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


_PROBES: dict[str, Callable[[], bool]] = {
    "database": _database_answers,
    "broker": _broker_answers,
}
