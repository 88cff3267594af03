"""Routes of the pages, and their protection against other sites.

A form of a hosted page posts to a URL below its page's URL and redirects to the page.
Each such request is one unit of work, which starts with the timers that are due.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from sandbox.common.fields import BadField
from sandbox.common.html.files import PREFIX, file
from sandbox.common.html.form import Form, read
from sandbox.common.html.responses import plain, redirect, respond
from sandbox.common.html.text import long_moment
from sandbox.common.http import Request, Response
from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.portal.actions import NotAllowed
from sandbox.stripe.pages.dashboard import query as view
from sandbox.stripe.pages.dashboard import status
from sandbox.stripe.pages.dashboard.actions import ACTIONS
from sandbox.stripe.pages.hosted import invoice, portal


class Page(NamedTuple):
    """Hosted page with the actions of its forms.

    `render` gets the token, the query and an error message. An action returns the query
    of the redirect, which makes the page show a notice.
    """

    render: Callable[[Context, str, Form, str], Response]
    actions: Mapping[str, Callable[[Context, str, Form], str]]


HOSTED = {
    page_urls.INVOICE_PATH: Page(invoice.page, invoice.ACTIONS),
    page_urls.SESSION_PATH: Page(portal.page, portal.ACTIONS),
    page_urls.LOGIN_PATH: Page(portal.login_page, {}),
}
NOT_FOUND = plain(404, "There is no such page.")
NOT_ALLOWED = plain(405, "Only GET is allowed here.", {"Allow": "GET, HEAD"})


def serves(request: Request) -> bool:
    """Return whether the request is for a page."""
    home = request.path == "/" and request.method in ("GET", "HEAD")
    return home or request.path.startswith((PREFIX, *HOSTED))


def handle(app: StripeApp, request: Request) -> Response:
    """Return the response to a page request. Never raises."""
    return respond(request, partial(_respond, app))


def _respond(app: StripeApp, request: Request) -> Response:
    prefix = next(filter(request.path.startswith, HOSTED), None)
    return _hosted(app, request, prefix) if prefix else _dashboard(app, request)


def _hosted(app: StripeApp, request: Request, prefix: str) -> Response:
    """Return the page, or run the action of a form and redirect to the page."""
    token, _, name = request.path.removeprefix(prefix).partition("/")
    page, address = HOSTED[prefix], f"{prefix}{token}"
    if name and name not in page.actions:
        return NOT_FOUND
    if request.method == "POST" and name:
        form = read(request.body.decode(errors="replace"))
        return _run(app, page, name, address, token, form)
    if request.method not in ("GET", "HEAD"):
        return NOT_ALLOWED
    # After an error the browser shows the action's URL: reloading leads to the page.
    return redirect(address) if name else _render(app, page, token, read(request.query))


def _run(
    app: StripeApp, page: Page, name: str, address: str, token: str, form: Form
) -> Response:
    """Run an action and redirect to the page, or return the page with the error."""
    try:
        query = app.transact(lambda context: page.actions[name](context, token, form))
    except (StripeError, NotAllowed) as error:
        status = error.status if isinstance(error, StripeError) else 403
        # Without the form: its fields are no query, so `done` in it shows no notice.
        shown = _render(app, page, token, {}, str(error))
        # The status of an unavailable page takes precedence over that of an error.
        return replace(shown, status=status) if shown.status == 200 else shown
    return redirect(f"{address}?{query}" if query else address)


def _render(
    app: StripeApp, page: Page, token: str, query: Form, error: str = ""
) -> Response:
    return app.transact(lambda context: page.render(context, token, query, error))


def _dashboard(app: StripeApp, request: Request) -> Response:
    """Return the dashboard or a file, or run an action and redirect to the page."""
    name = request.path.removeprefix(PREFIX)
    if request.method == "POST" and name in ACTIONS:
        return _run_on_dashboard(app, request, name)
    if request.method not in ("GET", "HEAD"):
        return NOT_ALLOWED
    if found := file(name, __package__):
        return found
    if request.path != "/":
        return NOT_FOUND
    _, notice = ACTIONS.get(read(request.query).get("done", ""), (None, ""))
    notice = notice.format(now=long_moment(app.clock.now()))
    return status.page(app, view.read(request.query), notice=notice)


def _run_on_dashboard(app: StripeApp, request: Request, name: str) -> Response:
    selected_view = view.read(request.query)
    try:
        ACTIONS[name][0](app, read(request.body.decode(errors="replace")))
    except BadField as error:
        return status.page(app, selected_view, error=str(error))
    query = "&".join(filter(None, (selected_view.query(), f"done={name}")))
    return redirect(f"/?{query}")
