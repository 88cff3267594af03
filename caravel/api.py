"""The JSON API's envelope: `{"data", "code"}` or `{"error", "code"}`."""

from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig
from rest_framework import exceptions as drf
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.response import Response
from rest_framework.views import exception_handler

from caravel.exceptions import BodyTooLarge, CaravelError

logger = structlog.get_logger(__name__)


class AlwaysJson(BaseContentNegotiation):
    """Answers in JSON whatever the caller says that it accepts."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Any, renderers: Any, format_suffix: Any = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


def success(data: Any, *, code: str = "ok", status: int = 200) -> Response:
    """Return data in the envelope."""
    return Response({"data": data, "code": code}, status=status)


def failure(error: CaravelError) -> Response:
    """Return an error in the envelope, with its own status.

    What is our fault, or that of somebody we rely on, is told by its code only: the
    rest is for the log.
    """
    sentence = error.message
    if error.status >= 500:
        logger.warning("request_failed", code=error.code, error=error.message)
        sentence = "Something that we need for this does not work just now."
    content = {"error": sentence, "code": error.code, **error.details}
    return Response(content, status=error.status, headers=error.headers)


def handle_exception(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Turn our errors and the framework's into the envelope.

    Returns None for any other, which Django then reports as an internal error.
    """
    if isinstance(exc, RequestDataTooBig):
        exc = BodyTooLarge("A request is at most 1 MiB.")
    if isinstance(exc, CaravelError):
        return failure(exc)
    response = exception_handler(exc, context)
    if response is not None:
        detail = exc.detail if isinstance(exc, drf.APIException) else str(exc)
        response.data = {"error": _sentence(detail), "code": _code(exc)}
    return response


def _sentence(detail: Any) -> str:
    return str(detail) if isinstance(detail, str) else "The request is invalid."


def _code(exc: Exception) -> str:
    codes = exc.get_codes() if isinstance(exc, drf.APIException) else "not-found"
    return codes.replace("_", "-") if isinstance(codes, str) else "invalid"
