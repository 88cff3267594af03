"""JSON envelope of the API: `{"data", "code"}` or `{"error", "code"}`."""

from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions as drf
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import exception_handler

from caravel.core.exceptions import CaravelError, Invalid
from caravel.core.web.failures import database_unavailable, error_content


class AlwaysJson(BaseContentNegotiation):
    """Content negotiation that always chooses JSON and ignores `Accept`."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Any, renderers: Any, format_suffix: Any = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


class StrictJsonParser(JSONParser):
    """JSON parser that reports deeply nested JSON as a parse error."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().parse(*args, **kwargs)
        except RecursionError as exc:
            raise drf.ParseError("The JSON is nested too deeply.") from exc


def success(data: Any, *, code: str = "ok", status: int = 200) -> Response:
    """Return a response with data in the envelope."""
    return Response({"data": data, "code": code}, status=status)


def failure(error: CaravelError) -> Response:
    """Return a response with the error in the envelope, and the error's status."""
    content = error_content(error)
    return Response(content, status=error.status, headers=error.headers)


def handle_exception(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Convert our errors and Django REST framework's errors to responses.

    Returns None for other exceptions; Django then reports an internal error.
    """
    if isinstance(exc, OperationalError | InterfaceError):
        exc = database_unavailable(exc)
    if isinstance(exc, drf.ValidationError):
        exc = _to_invalid(exc)
    if isinstance(exc, CaravelError):
        return failure(exc)
    response = exception_handler(exc, context)
    if response is not None:
        response.data = {"error": _message(exc), "code": _code(exc)}
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    """Handle an unexpected exception: JSON for the API, a page for everything else."""
    if not request.path.startswith("/api/"):
        return defaults.server_error(request)
    error = {"error": "An internal error; it has been logged.", "code": "internal"}
    return JsonResponse(error, status=500)


def _to_invalid(exc: drf.ValidationError) -> Invalid:
    """Convert a serializer's errors to Invalid: the code of the first, all messages."""
    if not isinstance(exc.detail, dict):
        return Invalid("The request is invalid.")
    by_field = {field: _first(errors) for field, errors in exc.detail.items()}
    field, first = next(iter(by_field.items()))
    if field == api_settings.NON_FIELD_ERRORS_KEY:
        return Invalid(str(first))
    is_missing = getattr(first, "code", "") == "required"
    problem = "required" if is_missing else "invalid"
    message = " ".join(f"{name}: {error}" for name, error in by_field.items())
    return Invalid(message, code=f"{field.replace('_', '-')}-{problem}")


def _first(errors: Any) -> Any:
    """Return the first error of a field, also if it is that of a list's item."""
    while isinstance(errors, list | dict):
        errors = next(iter(errors.values() if isinstance(errors, dict) else errors))
    return errors


def _message(exc: Exception) -> str:
    return str(exc.detail) if isinstance(exc, drf.APIException) else "Not found."


def _code(exc: Exception) -> str:
    codes = exc.get_codes() if isinstance(exc, drf.APIException) else "not-found"
    return str(codes).replace("_", "-")
