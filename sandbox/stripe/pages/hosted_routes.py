"""The pages that stand for Stripe's own, and what their forms do.

A form posts below its page's address and leads back to it. All happens in a unit of
work of its own, after what is due by now.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sandbox.stripe.context import Context
from sandbox.stripe.objects import addresses, portal
from sandbox.stripe.pages import invoice_page, paying, portal_deeds, portal_page
from sandbox.stripe.pages.answers import html, plain, redirect
from sandbox.stripe.pages.forms import Form, read
from sandbox.stripe.pages.sheet import Shown
from sandbox.stripe.protocol.errors import StripeError
from sandbox.stripe.protocol.http import Request, Response

if TYPE_CHECKING:
    from sandbox.stripe.app import StripeApp

Deed = Callable[[Context, str, Form], str]


class Page(NamedTuple):
    """How a page is shown, given its token, query and what went wrong, and its deeds.

    A deed returns the query that says on the page what was done.
    """

    show: Callable[[Context, str, Form, str], Shown]
    deeds: Mapping[str, Deed]


PAGES = {
    addresses.INVOICE_PATH: Page(invoice_page.show, paying.DEEDS),
    addresses.SESSION_PATH: Page(portal_page.show, portal_deeds.DEEDS),
    addresses.LOGIN_PATH: Page(portal_page.show_login, {}),
}


def serves(request: Request) -> bool:
    """Return whether the request is for one of these pages."""
    return request.path.startswith(tuple(PAGES))


def answer(app: "StripeApp", request: Request) -> Response:
    """Show the page, or do what a form of it asks for and go back to it."""
    prefix = next(one for one in PAGES if request.path.startswith(one))
    token, _, name = request.path.removeprefix(prefix).partition("/")
    page, address = PAGES[prefix], f"{prefix}{token}"
    deed = page.deeds.get(name)
    if name and deed is None:
        return plain(404, "There is no such page.")
    if request.method == "POST" and deed is not None:
        return _do(app, page, deed, address, token, request)
    if request.method not in ("GET", "HEAD"):
        return plain(405, "This cannot be posted to.", {"Allow": "GET, HEAD"})
    # Where a form was refused, its answer stands at the address that it posts to.
    return redirect(address) if name else _show(app, page, token, read(request.query))


def _do(
    app: "StripeApp",
    page: Page,
    deed: Deed,
    address: str,
    token: str,
    request: Request,
) -> Response:
    form = read(request.body.decode(errors="replace"))
    try:
        query = app.transact(lambda context: deed(context, token, form))
    except StripeError as error:
        return _show(app, page, token, form, error.status, str(error))
    except portal.NotAllowed as error:
        return _show(app, page, token, form, 403, str(error))
    return redirect(f"{address}?{query}" if query else address)


def _show(
    app: "StripeApp",
    page: Page,
    token: str,
    query: Form,
    status: int = 200,
    error: str = "",
) -> Response:
    shown = app.transact(lambda context: page.show(context, token, query, error))
    return html(status if shown.status == 200 else shown.status, shown.page)
