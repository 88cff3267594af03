"""What the billing portal shows of a customer, as far as it may be seen there."""

from collections.abc import Iterator
from itertools import islice

from sandbox.stripe.context import Context
from sandbox.stripe.objects import addresses, portal, portal_cards
from sandbox.stripe.objects.subscription_cycle import line_description
from sandbox.stripe.objects.subscription_shape import ENDED
from sandbox.stripe.pages.html import Html, tag
from sandbox.stripe.pages.sheet import Offer, card_name, field, offers, part, post
from sandbox.stripe.pages.text import badge, day, money
from sandbox.stripe.store import Record

MOST_INVOICES = 100
OFFERS = (
    Offer("visa", "works"),
    Offer("mastercard", "works"),
    Offer("chargeCustomerFail", "is saved, and declined when charged"),
    Offer("authenticationRequired", "asks for authentication at each charge"),
    Offer("chargeDeclined", "is declined at once"),
)
DETAILS = {
    "email": ("E-mail", "email"),
    "name": ("Name", "text"),
    "phone": ("Phone", "tel"),
}


def subscriptions(context: Context, session: Record, address: str) -> Html:
    """Return the customer's subscriptions, each with its way out or back."""
    may = portal.is_enabled(context, session, portal.CANCEL)
    items = [
        tag(
            "li",
            about(context, subscription),
            _end_or_renew(subscription, address) if may else None,
        )
        for subscription in live(context, session)
    ]
    return part(
        tag("h2", "Subscriptions"),
        tag("ul", items, class_="rows")
        if items
        else tag("p", "There is no subscription.", class_="empty"),
        id="subscriptions",
    )


def live(context: Context, session: Record) -> Iterator[Record]:
    """Yield the customer's subscriptions that have not ended, newest first."""
    index = ("customer", session["customer"])
    for subscription in context.store.scan("subscription", index=index):
        if subscription["status"] not in ENDED:
            yield subscription


def about(context: Context, subscription: Record) -> Html:
    """Return what is subscribed to, and until when."""
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
    """Return the cards on file, and how to add one, where the portal offers that."""
    if not portal.is_enabled(context, session, portal_cards.FEATURE):
        return None
    cards = portal_cards.list_cards(context, session)
    items = [_card(context, session, card, address) for card in cards]
    return part(
        tag("h2", "Payment methods"),
        tag("ul", items, class_="rows")
        if items
        else tag("p", "There is no card on file.", class_="empty"),
        tag("details", tag("summary", "Add a test card"), new_card(address)),
        id="payment-methods",
    )


def new_card(address: str) -> Html:
    """Return the test cards to choose from."""
    return offers(f"{address}/add-card", OFFERS, "Add card")


def details(context: Context, session: Record, address: str) -> Html | None:
    """Return the form for what the customer may change about themselves."""
    customer = context.get("customer", session["customer"])
    fields = [
        field(label, name, customer[name], type=type)
        for name, (label, type) in DETAILS.items()
        if portal.is_updatable(context, session, name)
    ]
    if not fields:
        return None
    form = post(f"{address}/details", fields, tag("button", "Save details"))
    return part(tag("h2", "Your details"), form, id="details")


def invoices(context: Context, session: Record) -> Html | None:
    """Return the invoices with the way to the page of each."""
    if not portal.is_enabled(context, session, "invoice_history"):
        return None
    found = context.store.scan("invoice", index=("customer", session["customer"]))
    final = (invoice for invoice in found if invoice["_token"])
    items = [_invoice(invoice) for invoice in islice(final, MOST_INVOICES)]
    return part(
        tag("h2", "Invoices"),
        tag("ul", items, class_="rows invoices")
        if items
        else tag("p", "There is no invoice yet.", class_="empty"),
        id="invoices",
    )


def _end_or_renew(subscription: Record, address: str) -> Html:
    id = subscription["id"]
    if not subscription["cancel_at"]:
        link = f"{address}?cancel={id}"
        return tag("a", "Cancel subscription", href=link, class_="button")
    hidden = tag("input", type="hidden", name="subscription", value=id)
    return post(f"{address}/renew", hidden, tag("button", "Keep subscription"))


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
    address: str, deed: str, method: Record, label: str, card: str
) -> Html:
    button = tag(
        "button",
        label,
        name="payment_method",
        value=method["id"],
        aria_label=f"{label}: {card}",
    )
    return post(f"{address}/{deed}", button)


def _invoice(invoice: Record) -> Html:
    asked = invoice["amount_remaining"] or invoice["amount_due"]
    link = f"{addresses.INVOICE_PATH}{invoice['_token']}"
    return tag(
        "li",
        day(invoice["effective_at"] or invoice["created"]),
        tag("a", invoice["number"], href=link),
        badge(invoice["status"]),
        tag("span", money(asked, invoice["currency"]), class_="amount"),
    )
