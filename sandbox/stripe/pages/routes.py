"""Which request gets which page, and who may ask."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from sandbox.stripe.pages import status, view
from sandbox.stripe.pages.actions import ACTIONS, BadForm
from sandbox.stripe.pages.html import Html
from sandbox.stripe.pages.text import long_moment
from sandbox.stripe.protocol.http import Request, Response

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

logger = logging.getLogger(__name__)
PREFIX = "/_pages/"
ASSETS = {
    "status.css": "text/css; charset=utf-8",
    "status.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
DIRECTORY = Path(__file__).parent / "assets"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not "no-referrer": a form would then be posted with the Origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def serves(request: Request) -> bool:
    """Return whether the request is for a page, not for the API."""
    home = request.path == "/" and request.method in ("GET", "HEAD")
    return home or request.path.startswith(PREFIX)


def handle(app: "StripeApp", request: Request, objection: str | None) -> Response:
    """Answer a request for a page, unless there is an objection; never raises."""
    try:
        return _refusal(request, objection) or _answer(app, request)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return _plain(500, "The sandbox failed; its log says how.")


def _refusal(request: Request, objection: str | None) -> Response | None:
    if objection:
        return _plain(403, f"Refused: {objection}.")
    # Stricter than for programs: a page's form always says where it comes from.
    own = f"http://{request.headers.get('host', '')}"
    if request.method == "POST" and request.headers.get("origin") != own:
        return _plain(403, "Only the pages themselves may send this.")
    return None


def _answer(app: "StripeApp", request: Request) -> Response:
    name = request.path.removeprefix(PREFIX)
    if request.method == "POST" and name in ACTIONS:
        return _act(app, request, name)
    if request.method not in ("GET", "HEAD"):
        return _plain(405, "This cannot be posted to.", {"Allow": "GET, HEAD"})
    if name in ASSETS:
        return _response(200, (DIRECTORY / name).read_bytes(), ASSETS[name])
    if request.path != "/":
        return _plain(404, "There is no such page.")
    return _status(app, request)


def _status(app: "StripeApp", request: Request) -> Response:
    wanted = view.read(request.query)
    done = parse_qs(request.query).get("done", [""])[-1]
    said = (
        ACTIONS[done][1].format(now=long_moment(app.clock.now()))
        if done in ACTIONS
        else ""
    )
    missing = status.is_missing(app, wanted)
    return _html(404 if missing else 200, status.page(app, wanted, said=said))


def _act(app: "StripeApp", request: Request, name: str) -> Response:
    wanted = view.read(request.query)
    form = parse_qs(request.body.decode(errors="replace"), keep_blank_values=True)
    try:
        ACTIONS[name][0](app, {key: values[-1] for key, values in form.items()})
    except BadForm as error:
        return _html(400, status.page(app, wanted, error=str(error)))
    query = "&".join(filter(None, (wanted.query(), f"done={name}")))
    return _response(303, b"", "text/plain", {"Location": f"/?{query}"})


def _html(status: int, page: Html) -> Response:
    return _response(status, page.encode(), "text/html; charset=utf-8")


def _plain(
    status: int, text: str, headers: Mapping[str, str] | None = None
) -> Response:
    return _response(status, f"{text}\n".encode(), "text/plain; charset=utf-8", headers)


def _response(
    status: int, body: bytes, type: str, headers: Mapping[str, str] | None = None
) -> Response:
    return Response(status, body, {**HEADERS, "Content-Type": type, **(headers or {})})
