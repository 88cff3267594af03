"""Routes of the sandbox's pages, and their protection against other sites."""

from functools import partial
from urllib.parse import parse_qs

from sandbox.common.html.files import PREFIX, file
from sandbox.common.html.form import read
from sandbox.common.html.responses import plain, redirect, respond
from sandbox.common.html.text import long_moment
from sandbox.common.http import Request, Response
from sandbox.stripe.app import StripeApp
from sandbox.stripe.pages.dashboard import query as view
from sandbox.stripe.pages.dashboard import status
from sandbox.stripe.pages.dashboard.actions import ACTIONS, BadForm
from sandbox.stripe.pages.hosted import routes


def serves(request: Request) -> bool:
    """Return whether the request is for a page."""
    home = request.path == "/" and request.method in ("GET", "HEAD")
    internal = request.path.startswith(PREFIX)
    return home or internal or routes.serves(request)


def handle(app: StripeApp, request: Request) -> Response:
    """Return the response to a page request. Never raises."""
    return respond(request, partial(_respond, app))


def _respond(app: StripeApp, request: Request) -> Response:
    if routes.serves(request):
        return routes.respond(app, request)
    name = request.path.removeprefix(PREFIX)
    if request.method == "POST" and name in ACTIONS:
        return _run_action(app, request, name)
    if request.method not in ("GET", "HEAD"):
        return plain(405, "Only GET is allowed here.", {"Allow": "GET, HEAD"})
    if found := file(name, __package__):
        return found
    if request.path != "/":
        return plain(404, "There is no such page.")
    return _status(app, request)


def _status(app: StripeApp, request: Request) -> Response:
    selected_view = view.read(request.query)
    action = parse_qs(request.query).get("done", [""])[-1]
    notice = (
        ACTIONS[action][1].format(now=long_moment(app.clock.now()))
        if action in ACTIONS
        else ""
    )
    return status.page(app, selected_view, notice=notice)


def _run_action(app: StripeApp, request: Request, name: str) -> Response:
    selected_view = view.read(request.query)
    try:
        ACTIONS[name][0](app, read(request.body.decode(errors="replace")))
    except BadForm as error:
        return status.page(app, selected_view, error=str(error))
    query = "&".join(filter(None, (selected_view.query(), f"done={name}")))
    return redirect(f"/?{query}")
