"""The frame of the pages that a customer looks at, and the parts they share."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sandbox.stripe.objects import cards
from sandbox.stripe.pages.html import Child, Html, document, tag

BRANDS = {
    "amex": "American Express",
    "diners": "Diners Club",
    "discover": "Discover",
    "jcb": "JCB",
    "mastercard": "Mastercard",
    "unionpay": "UnionPay",
    "visa": "Visa",
}
NOTICE = (
    "This page belongs to a sandbox and stands in for Stripe's own. Its cards are test "
    "cards: no money moves, and no mail is sent."
)
NAME = "Sandbox"


class Shown(NamedTuple):
    """A page and the status it is answered with."""

    status: int
    page: Html


class Offer(NamedTuple):
    """A test card to choose, and what comes of it."""

    card: str
    outcome: str


def sheet(title: str, *body: Child, back: Child = None, refresh: str = "") -> Html:
    """Return a page of one column; `refresh` is where it leads by itself."""
    masthead = tag(
        "header",
        tag("p", NAME, class_="seller"),
        tag("span", "Test mode: no money moves", class_="badge warn"),
        tag("p", back, class_="back") if back else None,
    )
    foot = tag(
        "footer", tag("p", NOTICE), tag("p", tag("a", "The sandbox's state", href="/"))
    )
    content = (masthead, tag("main", body), foot)
    whole = tag("div", content, class_="sheet")
    return document(f"{title} · {NAME}", "hosted.css", whole, refresh=refresh)


def closed(status: int, title: str, *sentences: Child) -> Shown:
    """Return a page that says why there is nothing to see."""
    told = [tag("p", sentence) for sentence in sentences]
    return Shown(status, sheet(title, part(tag("h1", title), told, class_="closed")))


def part(*body: Child, id: str | None = None, class_: str | None = None) -> Html:
    """Return a part of the sheet."""
    return tag("section", body, id=id, class_=class_)


def message(said: str, error: str) -> Html | None:
    """Return what was done, or why it was not."""
    if error:
        return tag("p", error, class_="message bad", role="alert")
    return tag("p", said, class_="message good", role="status") if said else None


def post(action: str, *body: Child, class_: str | None = None) -> Html:
    """Return a form that posts to an address."""
    return tag("form", body, method="post", action=action, class_=class_)


def field(label: str, name: str, value: str | None = None, **more: Any) -> Html:
    """Return a line of text to fill in, below its label."""
    return tag(
        "p",
        tag("label", label, for_=name),
        tag("input", name=name, id=name, value=value or None, **more),
        class_="field",
    )


def terms(*pairs: tuple[str, Child]) -> Html:
    """Return names and what they stand for, without those that stand for nothing."""
    rows = [
        tag("div", tag("dt", name), tag("dd", what)) for name, what in pairs if what
    ]
    return tag("dl", rows)


def card_name(card: Mapping[str, Any]) -> str:
    """Return a card as its holder knows it: `Visa •••• 4242`."""
    brand = BRANDS.get(card["brand"], str(card["brand"]).capitalize())
    return f"{brand} •••• {card['last4']}"


def offers(action: str, chosen: Sequence[Offer], submit: str) -> Html:
    """Return a button for each test card, and a field for the number of any other."""
    buttons = [tag("li", _offer(offer)) for offer in chosen]
    other = post(
        action,
        field(
            "Card number",
            "card",
            required=True,
            inputmode="numeric",
            autocomplete="off",
            placeholder="5555 5555 5555 4444",
        ),
        tag("button", submit),
        class_="line",
    )
    return tag(
        "div",
        post(action, tag("ul", buttons, class_="offers")),
        tag("details", tag("summary", "Another test card"), other),
    )


def _offer(offer: Offer) -> Html:
    card = cards.CARDS[offer.card]
    shown = {"brand": card.brand, "last4": card.last4}
    return tag(
        "button",
        tag("span", card_name(shown)),
        " ",
        tag("span", offer.outcome, class_="soft"),
        name="card",
        value=f"pm_card_{offer.card}",
    )
