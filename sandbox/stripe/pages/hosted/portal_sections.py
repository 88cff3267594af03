"""Sections of the billing portal, as far as its configuration allows them."""

from collections.abc import Iterator
from itertools import islice

from sandbox.common.html.elements import Html, tag
from sandbox.stripe.api.context import Context
from sandbox.stripe.objects import page_urls
from sandbox.stripe.objects.portal import actions
from sandbox.stripe.objects.portal import cards as portal_cards
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions.renewal import line_description
from sandbox.stripe.pages.hosted.layout import (
    CardChoice,
    card_choices,
    card_name,
    field,
    panel,
    post,
)
from sandbox.stripe.pages.text import badge, day, money
from sandbox.stripe.store.records import Record

MAX_INVOICES = 100
CARDS = (
    CardChoice("visa", "works"),
    CardChoice("mastercard", "works"),
    CardChoice("chargeCustomerFail", "is saved, and declined when charged"),
    CardChoice("authenticationRequired", "asks for authentication at each charge"),
    CardChoice("chargeDeclined", "is declined at once"),
)
DETAILS = {
    "email": ("E-mail", "email"),
    "name": ("Name", "text"),
    "phone": ("Phone", "tel"),
}


def subscriptions(context: Context, session: Record) -> Html:
    """Return the customer's subscriptions."""
    items = [
        tag("li", subscription_summary(context, subscription))
        for subscription in live_subscriptions(context, session)
    ]
    return panel(
        tag("h2", "Subscriptions"),
        tag("ul", items, class_="rows")
        if items
        else tag("p", "No subscriptions.", class_="empty"),
        id="subscriptions",
    )


def live_subscriptions(context: Context, session: Record) -> Iterator[Record]:
    """Yield the customer's subscriptions that have not ended, newest first."""
    index = ("customer", session["customer"])
    for subscription in context.store.scan("subscription", index=index):
        if subscription["status"] not in ENDED:
            yield subscription


def subscription_summary(context: Context, subscription: Record) -> Html:
    """Return the prices, status and end of the period of a subscription."""
    prices = [
        tag(
            "p",
            line_description(
                context, context.get("price", item["price"]), item["quantity"]
            ),
        )
        for item in subscription["_items"]
    ]
    renews = max(item["current_period_end"] for item in subscription["_items"])
    ends = subscription["cancel_at"]
    until = ("Ends on ", day(ends)) if ends else ("Renews on ", day(renews))
    state = tag("p", badge(subscription["status"]), until, class_="soft")
    return tag("div", prices, state)


def payment_methods(context: Context, session: Record, address: str) -> Html | None:
    """Return the cards on file and the form to add one, if the portal allows it."""
    if not actions.is_enabled(context, session, portal_cards.FEATURE):
        return None
    cards = portal_cards.list_cards(context, session)
    items = [_card(context, session, card, address) for card in cards]
    return panel(
        tag("h2", "Payment methods"),
        tag("ul", items, class_="rows")
        if items
        else tag("p", "No cards on file.", class_="empty"),
        tag("details", tag("summary", "Add a test card"), new_card(address)),
        id="payment-methods",
    )


def new_card(address: str) -> Html:
    """Return the form with test cards to add."""
    return card_choices(f"{address}/add-card", CARDS, "Add card")


def details(context: Context, session: Record, address: str) -> Html | None:
    """Return the form for the details that the customer may update."""
    customer = context.get("customer", session["customer"])
    fields = [
        field(label, name, customer[name], type=type)
        for name, (label, type) in DETAILS.items()
        if actions.is_updatable(context, session, name)
    ]
    if not fields:
        return None
    form = post(f"{address}/details", fields, tag("button", "Save details"))
    return panel(tag("h2", "Your details"), form, id="details")


def invoices(context: Context, session: Record) -> Html | None:
    """Return the finalized invoices with links to their pages."""
    if not actions.is_enabled(context, session, "invoice_history"):
        return None
    records = context.store.scan("invoice", index=("customer", session["customer"]))
    # Drafts have no page, and thus no token.
    finalized = (invoice for invoice in records if invoice["_token"])
    items = [_invoice(invoice) for invoice in islice(finalized, MAX_INVOICES)]
    return panel(
        tag("h2", "Invoices"),
        tag("ul", items, class_="rows invoices")
        if items
        else tag("p", "No invoices yet.", class_="empty"),
        id="invoices",
    )


def _card(context: Context, session: Record, method: Record, address: str) -> Html:
    card, name = method["card"], card_name(method["card"])
    default = method["id"] == portal_cards.default_id(context, session)
    expiry = f"expires {card['exp_month']:02}/{card['exp_year']}"
    return tag(
        "li",
        tag(
            "div",
            tag("p", name, " ", badge("default") if default else None),
            tag("p", expiry, class_="soft"),
        ),
        tag(
            "div",
            None
            if default
            else _card_button(address, "default-card", method, "Make default", name),
            tag("p", "pays a subscription", class_="soft")
            if portal_cards.is_only_card(context, session, method["id"])
            else _card_button(address, "remove-card", method, "Remove", name),
            class_="buttons",
        ),
    )


def _card_button(
    address: str, action: str, method: Record, label: str, card: str
) -> Html:
    button = tag(
        "button",
        label,
        name="payment_method",
        value=method["id"],
        aria_label=f"{label}: {card}",
    )
    return post(f"{address}/{action}", button)


def _invoice(invoice: Record) -> Html:
    amount = invoice["amount_remaining"] or invoice["amount_due"]
    link = f"{page_urls.INVOICE_PATH}{invoice['_token']}"
    return tag(
        "li",
        day(invoice["effective_at"] or invoice["created"]),
        tag("a", invoice["number"], href=link),
        badge(invoice["status"]),
        tag("span", money(amount, invoice["currency"]), class_="amount"),
    )
