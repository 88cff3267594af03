"""Middleware that adds request id, user and address to each line of a request's log."""

import structlog
from django.http import HttpRequest
from django_structlog.middlewares import RequestMiddleware

from caravel.core.web.throttling import client_ip


class RequestLogMiddleware(RequestMiddleware):
    """django-structlog's middleware, with the address that the rate limits use.

    Its own takes the first of a dozen headers, all of which a caller can send.
    """

    @classmethod
    def bind_ip(cls, request: HttpRequest) -> None:
        structlog.contextvars.bind_contextvars(ip=client_ip(request))
