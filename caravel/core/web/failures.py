"""Our errors as responses, without Django REST framework."""

import structlog
from django.http import JsonResponse

from caravel.core.exceptions import CaravelError, Unavailable

logger = structlog.get_logger(__name__)


def error_content(error: CaravelError) -> dict[str, object]:
    """Return the content of a response: the error in the envelope."""
    message = error.message
    if error.status >= 500:
        # Callers get only the code: the message may describe our own infrastructure.
        logger.warning("request_failed", code=error.code, error=error.message)
        message = "A service that this request needs is temporarily unavailable."
    return {"error": message, "code": error.code, **error.details}


def plain_failure(error: CaravelError) -> JsonResponse:
    """Return a response with the error in the envelope, and the error's status."""
    content = error_content(error)
    return JsonResponse(content, status=error.status, headers=error.headers)


def database_unavailable(exc: Exception) -> Unavailable:
    """Log that the database is down, or that a lock timed out; return our error.

    The same request may succeed later.
    """
    logger.error("database_unavailable", exc_info=exc)
    return Unavailable("The database does not answer.")
