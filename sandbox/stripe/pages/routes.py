"""Routes of the sandbox's pages, and their protection against other sites."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from sandbox.common.http import Request, Response
from sandbox.stripe.pages.answers import answer, html, plain, redirect
from sandbox.stripe.pages.dashboard import query as view
from sandbox.stripe.pages.dashboard import status
from sandbox.stripe.pages.dashboard.actions import ACTIONS, BadForm
from sandbox.stripe.pages.forms import read
from sandbox.stripe.pages.hosted import routes
from sandbox.stripe.pages.text import long_moment

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

logger = logging.getLogger(__name__)
PREFIX = "/_pages/"
ASSETS = {
    "hosted.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "lightning.css": "text/css; charset=utf-8",
    "status.css": "text/css; charset=utf-8",
    "status.js": "text/javascript; charset=utf-8",
    "theme.css": "text/css; charset=utf-8",
}
DIRECTORY = Path(__file__).parent / "assets"


def serves(request: Request) -> bool:
    """Return whether the request is for a page."""
    home = request.path == "/" and request.method in ("GET", "HEAD")
    internal = request.path.startswith(PREFIX)
    return home or internal or routes.serves(request)


def handle(app: "StripeApp", request: Request, denial: str | None) -> Response:
    """Return the response to a page request, a 403 if denied. Never raises."""
    try:
        return refusal(request, denial) or _respond(app, request)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return plain(500, "The sandbox failed; see its log.")


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


def _respond(app: "StripeApp", request: Request) -> Response:
    if routes.serves(request):
        return routes.respond(app, request)
    name = request.path.removeprefix(PREFIX)
    if request.method == "POST" and name in ACTIONS:
        return _run_action(app, request, name)
    if request.method not in ("GET", "HEAD"):
        return plain(405, "Only GET is allowed here.", {"Allow": "GET, HEAD"})
    if name in ASSETS:
        return answer(200, (DIRECTORY / name).read_bytes(), ASSETS[name])
    if request.path != "/":
        return plain(404, "There is no such page.")
    return _status(app, request)


def _status(app: "StripeApp", request: Request) -> Response:
    selected_view = view.read(request.query)
    action = parse_qs(request.query).get("done", [""])[-1]
    notice = (
        ACTIONS[action][1].format(now=long_moment(app.clock.now()))
        if action in ACTIONS
        else ""
    )
    missing = status.is_missing(app, selected_view)
    return html(404 if missing else 200, status.page(app, selected_view, notice=notice))


def _run_action(app: "StripeApp", request: Request, name: str) -> Response:
    selected_view = view.read(request.query)
    try:
        ACTIONS[name][0](app, read(request.body.decode(errors="replace")))
    except BadForm as error:
        return html(400, status.page(app, selected_view, error=str(error)))
    query = "&".join(filter(None, (selected_view.query(), f"done={name}")))
    return redirect(f"/?{query}")
