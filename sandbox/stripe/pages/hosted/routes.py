"""Routes of the pages that stand in for Stripe's hosted pages.

A form posts to a URL below its page's URL and redirects to the page. Every request is
one unit of work, which starts with the timers that are due.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sandbox.common.html.form import Form, read
from sandbox.common.html.responses import html, plain, redirect
from sandbox.common.http import Request, Response
from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.portal import actions as portal
from sandbox.stripe.pages.hosted import (
    invoice,
    payment,
    portal_actions,
)
from sandbox.stripe.pages.hosted import (
    portal as portal_page,
)
from sandbox.stripe.pages.hosted.layout import PageResult

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

Action = Callable[[Context, str, Form], str]


class Page(NamedTuple):
    """Page with the actions of its forms.

    `render` gets the token, the query and an error message. An action returns the query
    of the redirect, which makes the page show a notice.
    """

    render: Callable[[Context, str, Form, str], PageResult]
    actions: Mapping[str, Action]


PAGES = {
    page_urls.INVOICE_PATH: Page(invoice.render, payment.ACTIONS),
    page_urls.SESSION_PATH: Page(portal_page.render, portal_actions.ACTIONS),
    page_urls.LOGIN_PATH: Page(portal_page.render_login, {}),
}


def serves(request: Request) -> bool:
    """Return whether the request is for one of these pages."""
    return request.path.startswith(tuple(PAGES))


def respond(app: "StripeApp", request: Request) -> Response:
    """Return the page, or run the action of a form and redirect to the page."""
    prefix = next(path for path in PAGES if request.path.startswith(path))
    token, _, name = request.path.removeprefix(prefix).partition("/")
    page, address = PAGES[prefix], f"{prefix}{token}"
    action = page.actions.get(name)
    if name and action is None:
        return plain(404, "There is no such page.")
    if request.method == "POST" and action is not None:
        return _run(app, page, action, address, token, request)
    if request.method not in ("GET", "HEAD"):
        return plain(405, "Only GET is allowed here.", {"Allow": "GET, HEAD"})
    # After an error the browser shows the action's URL: reloading leads to the page.
    return redirect(address) if name else _render(app, page, token, read(request.query))


def _run(
    app: "StripeApp",
    page: Page,
    action: Action,
    address: str,
    token: str,
    request: Request,
) -> Response:
    form = read(request.body.decode(errors="replace"))
    try:
        query = app.transact(lambda context: action(context, token, form))
    except StripeError as error:
        return _render(app, page, token, form, error.status, str(error))
    except portal.NotAllowed as error:
        return _render(app, page, token, form, 403, str(error))
    return redirect(f"{address}?{query}" if query else address)


def _render(
    app: "StripeApp",
    page: Page,
    token: str,
    query: Form,
    status: int = 200,
    error: str = "",
) -> Response:
    result = app.transact(lambda context: page.render(context, token, query, error))
    # The status of an unavailable page takes precedence over that of an error.
    return html(status if result.status == 200 else result.status, result.page)
