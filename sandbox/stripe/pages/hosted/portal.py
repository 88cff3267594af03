"""Billing portal for customers.

Sources: docs pages "Customer portal", "Deep links in the customer portal": a flow shows
a single action without other navigation; the session defines what follows it. The
sandbox does not model changes of subscriptions in the portal.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from sandbox.common.html.form import Form
from sandbox.common.http import Response
from sandbox.stripe.api.context import Context
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.portal import actions, cards
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions.billing import line_description
from sandbox.stripe.pages.hosted.rendering import not_found, render, web_address
from sandbox.stripe.store.records import Record

MAX_INVOICES = 100
EXPIRED = (
    "A session link must be opened within five minutes and expires one hour after its "
    "last use. Go back and open the portal again."
)
NO_LOGIN = (
    "Stripe would ask for an e-mail address and send a link to the portal. The sandbox "
    "sends no mail: create a portal session and open its URL."
)


class FormAction(NamedTuple):
    """Action of a form, with the field it gets or None for all, and its notice."""

    run: Callable[[Context, Record, Any], object]
    field: str | None
    notice: str


FORMS = {
    "add-card": FormAction(
        cards.add, "card", "The card was saved and is now the default."
    ),
    "default-card": FormAction(
        cards.make_default, "payment_method", "The default card was changed."
    ),
    "details": FormAction(actions.update_details, None, "Your details were saved."),
    "remove-card": FormAction(cards.remove, "payment_method", "The card was removed."),
}


def _run(name: str, context: Context, token: str, form: Form) -> str:
    """Run the action of a form; if the session has expired, the page says so."""
    try:
        session = actions.use_session(context, token)
    except actions.SessionExpired:
        return ""
    action = FORMS[name]
    values = form.get(action.field, "") if action.field else form
    action.run(context, session, values)
    return f"done={name}"


ACTIONS = {name: partial(_run, name) for name in FORMS}


def page(context: Context, token: str, query: Form, error: str) -> Response:
    """Return the portal of a session, or a page with the reason it is unavailable."""
    session = page_urls.find_session(context.store, token)
    if session is None:
        return not_found("Session")
    return_url = web_address(session["return_url"])
    unavailable = partial(render, "message", status=410, return_url=return_url)
    try:
        session = actions.use_session(context, token)
    except actions.SessionExpired:
        return unavailable(heading="This session has expired", text=EXPIRED)
    if context.get("customer", session["customer"]).get("deleted"):
        return unavailable(heading="This customer has been deleted")
    return _portal(context, session, query.get("done", ""), error, return_url)


def login_page(context: Context, token: str, query: Form, error: str) -> Response:
    """Return a page that explains the missing login."""
    heading = "Login is not available"
    return render("message", status=404, heading=heading, text=NO_LOGIN)


def _portal(
    context: Context, session: Record, done: str, error: str, return_url: str | None
) -> Response:
    """Return the step of a flow, the page after it, or the whole portal."""
    flow, notice = session["flow"], FORMS[done].notice if done in FORMS else ""
    data = {
        "address": f"{page_urls.SESSION_PATH}{session['_token']}",
        "back": return_url,
        "customer": context.get("customer", session["customer"]),
        "error": error,
        "headline": _profile(context, session)["headline"],
    }
    if flow and done != "add-card":
        return render("portal_flow", **data)
    if flow and flow["after_completion"]["type"] != "portal_homepage":
        return _completed(flow["after_completion"], notice, return_url)
    return render("portal", notice=notice, **data, **_sections(context, session))


def _completed(after: dict[str, Any], notice: str, return_url: str | None) -> Response:
    """Return the page after a flow, which may redirect to a URL."""
    page = partial(render, "message", title="Done", heading=notice)
    if after["type"] == "redirect":
        return page(refresh=web_address(after["redirect"]["return_url"]))
    return page(text=after["hosted_confirmation"]["custom_message"], back=return_url)


def _sections(context: Context, session: Record) -> dict[str, Any]:
    """Return the contents of the portal; None for a feature that is not enabled."""
    has_cards = actions.is_enabled(context, session, cards.FEATURE)
    has_invoices = actions.is_enabled(context, session, "invoice_history")
    methods, profile = cards.list_cards(context, session), _profile(context, session)
    is_only_card = partial(cards.is_only_card, context, session)
    is_updatable = partial(actions.is_updatable, context, session)
    return {
        "cards": methods if has_cards else None,
        "default_card": cards.default_id(context, session),
        "details": list(filter(is_updatable, actions.DETAILS.fields)),
        "invoices": _invoices(context, session) if has_invoices else None,
        "only_cards": [card["id"] for card in methods if is_only_card(card["id"])],
        "privacy_url": web_address(profile["privacy_policy_url"]),
        "subscriptions": list(_subscriptions(context, session)),
        "terms_url": web_address(profile["terms_of_service_url"]),
    }


def _profile(context: Context, session: Record) -> Record:
    configuration = context.get(page_urls.CONFIGURATION, session["configuration"])
    profile: Record = configuration["business_profile"]
    return profile


def _subscriptions(context: Context, session: Record) -> Iterator[Record]:
    """Yield the customer's subscriptions that have not ended, newest first."""
    index = ("customer", session["customer"])
    for record in context.store.scan("subscription", index=index):
        if record["status"] not in ENDED:
            items = record["_items"]
            yield {
                "cancel_at": record["cancel_at"],
                "prices": [_price(context, item) for item in items],
                "renews_at": max(item["current_period_end"] for item in items),
                "status": record["status"],
            }


def _price(context: Context, item: Record) -> str:
    price = context.get("price", item["price"])
    return line_description(context, price, item["quantity"])


def _invoices(context: Context, session: Record) -> list[Record]:
    """Return the newest finalized invoices; drafts have no page, and thus no token."""
    records = context.store.scan("invoice", index=("customer", session["customer"]))
    finalized = (record for record in records if record["_token"])
    return list(islice(finalized, MAX_INVOICES))
