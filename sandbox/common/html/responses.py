"""Responses with pages, and the security headers of all of them."""

from collections.abc import Mapping

from sandbox.common.http import Request, Response

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


def refusal(request: Request, denial: str | None) -> Response | None:
    """Return a 403 for a request that is not allowed, else None."""
    if denial:
        return plain(403, f"Refused: {denial}.")
    # CSRF: browsers always send Origin with a form. Programs use the control API, which
    # accepts requests without it.
    own_origin = f"http://{request.headers.get('host', '')}"
    if request.method == "POST" and request.headers.get("origin") != own_origin:
        return plain(403, "Only the sandbox's own pages can send this form.")
    return None
