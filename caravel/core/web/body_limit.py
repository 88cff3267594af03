"""The limit on the size of requests."""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from caravel.core.exceptions import BodyTooLarge


class BodyLimitMiddleware:
    """Middleware that refuses requests larger than MAX_BODY before any part is read.

    Django's own limits exempt files, which it would write to disk.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if _length(request) <= settings.MAX_BODY:
            return self._get_response(request)
        error = {"error": "A request body is at most 1 MiB.", "code": BodyTooLarge.code}
        return JsonResponse(error, status=BodyTooLarge.status)


def _length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        # Django does not read such a body.
        return 0
