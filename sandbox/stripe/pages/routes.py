"""Which request gets which page, and who may ask."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from sandbox.stripe.pages import hosted_routes, status, view
from sandbox.stripe.pages.actions import ACTIONS, BadForm
from sandbox.stripe.pages.answers import answer, html, plain, redirect
from sandbox.stripe.pages.forms import read
from sandbox.stripe.pages.text import long_moment
from sandbox.stripe.protocol.http import Request, Response

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
    """Return whether the request is for a page, not for the API."""
    home = request.path == "/" and request.method in ("GET", "HEAD")
    own = request.path.startswith(PREFIX)
    return home or own or hosted_routes.serves(request)


def handle(app: "StripeApp", request: Request, objection: str | None) -> Response:
    """Answer a request for a page, unless there is an objection; never raises."""
    try:
        return refusal(request, objection) or _answer(app, request)
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        return plain(500, "The sandbox failed; its log says how.")


def refusal(request: Request, objection: str | None) -> Response | None:
    """Return why a request does not get a page, or None."""
    if objection:
        return plain(403, f"Refused: {objection}.")
    # Stricter than for programs: a page's form always says where it comes from.
    own = f"http://{request.headers.get('host', '')}"
    if request.method == "POST" and request.headers.get("origin") != own:
        return plain(403, "Only the pages themselves may send this.")
    return None


def _answer(app: "StripeApp", request: Request) -> Response:
    if hosted_routes.serves(request):
        return hosted_routes.answer(app, request)
    name = request.path.removeprefix(PREFIX)
    if request.method == "POST" and name in ACTIONS:
        return _act(app, request, name)
    if request.method not in ("GET", "HEAD"):
        return plain(405, "This cannot be posted to.", {"Allow": "GET, HEAD"})
    if name in ASSETS:
        return answer(200, (DIRECTORY / name).read_bytes(), ASSETS[name])
    if request.path != "/":
        return plain(404, "There is no such page.")
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
    return html(404 if missing else 200, status.page(app, wanted, said=said))


def _act(app: "StripeApp", request: Request, name: str) -> Response:
    wanted = view.read(request.query)
    try:
        ACTIONS[name][0](app, read(request.body.decode(errors="replace")))
    except BadForm as error:
        return html(400, status.page(app, wanted, error=str(error)))
    query = "&".join(filter(None, (wanted.query(), f"done={name}")))
    return redirect(f"/?{query}")
