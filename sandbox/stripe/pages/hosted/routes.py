"""Routes of the pages that stand in for Stripe's hosted pages.

A form posts to a URL below its page's URL and redirects to the page. Every request is
one unit of work, which starts with the timers that are due.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from sandbox.common.html.form import Form, read
from sandbox.common.html.responses import plain, redirect
from sandbox.common.http import Request, Response
from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.app import StripeApp
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.portal.actions import NotAllowed
from sandbox.stripe.pages.hosted import invoice, portal


class Page(NamedTuple):
    """Page with the actions of its forms.

    `render` gets the token, the query and an error message. An action returns the query
    of the redirect, which makes the page show a notice.
    """

    render: Callable[[Context, str, Form, str], Response]
    actions: Mapping[str, Callable[[Context, str, Form], str]]


PAGES = {
    page_urls.INVOICE_PATH: Page(invoice.page, invoice.ACTIONS),
    page_urls.SESSION_PATH: Page(portal.page, portal.ACTIONS),
    page_urls.LOGIN_PATH: Page(portal.login_page, {}),
}


def serves(request: Request) -> bool:
    """Return whether the request is for one of these pages."""
    return request.path.startswith(tuple(PAGES))


def respond(app: StripeApp, request: Request) -> Response:
    """Return the page, or run the action of a form and redirect to the page."""
    prefix = next(path for path in PAGES if request.path.startswith(path))
    token, _, name = request.path.removeprefix(prefix).partition("/")
    page, address = PAGES[prefix], f"{prefix}{token}"
    if name and name not in page.actions:
        return plain(404, "There is no such page.")
    if request.method == "POST" and name:
        form = read(request.body.decode(errors="replace"))
        return _run(app, page, name, address, token, form)
    if request.method not in ("GET", "HEAD"):
        return plain(405, "Only GET is allowed here.", {"Allow": "GET, HEAD"})
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
        shown = _render(app, page, token, form, str(error))
        # The status of an unavailable page takes precedence over that of an error.
        return replace(shown, status=status) if shown.status == 200 else shown
    return redirect(f"{address}?{query}" if query else address)


def _render(
    app: StripeApp, page: Page, token: str, query: Form, error: str = ""
) -> Response:
    return app.transact(lambda context: page.render(context, token, query, error))
