"""Responses with pages, and the security headers of all of them."""

import logging
from collections.abc import Callable, Mapping

from sandbox.common.access import denial_reason
from sandbox.common.http import Request, Response

logger = logging.getLogger(__name__)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": browsers would then post forms with the Origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def html(status: int, page: str) -> Response:
    """Return a response with a page."""
    return answer(status, page.encode(), "text/html; charset=utf-8")


def plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with plain text."""
    return answer(status, f"{text}\n".encode(), "text/plain; charset=utf-8", headers)


def redirect(location: str) -> Response:
    """Return a redirect that is followed with a GET."""
    return answer(303, b"", "text/plain", {"Location": location})


def answer(
    status: int, body: bytes, type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with the security headers."""
    return Response(status, body, {**HEADERS, "Content-Type": type, **(headers or {})})


def respond(request: Request, page: Callable[[Request], Response]) -> Response:
    """Return the response of a page; a 403 if it is not allowed. Never raises."""
    try:
        return _refusal(request) or page(request)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return plain(500, "The sandbox failed; see its log.")


def _refusal(request: Request) -> Response | None:
    if denial := denial_reason(request):
        return plain(403, f"Refused: {denial}.")
    # CSRF: browsers always send Origin with a form. Programs use the control API, which
    # accepts requests without it.
    own_origin = f"http://{request.headers.get('host', '')}"
    if request.method == "POST" and request.headers.get("origin") != own_origin:
        return plain(403, "Only the sandbox's own pages can send this form.")
    return None
