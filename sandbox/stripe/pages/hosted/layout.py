"""Layout of the pages for customers, and their common elements."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sandbox.common.html.elements import Child, Html, document, tag
from sandbox.stripe.objects.schemas import test_cards

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
    "This page belongs to a sandbox and stands in for Stripe's. Its cards are test "
    "cards: no money moves, and no mail is sent."
)
NAME = "Sandbox"


class PageResult(NamedTuple):
    """Page with its HTTP status."""

    status: int
    page: Html


class CardChoice(NamedTuple):
    """Test card with a description of its outcome."""

    card: str
    outcome: str


def layout(title: str, *body: Child, back: Child = None, refresh: str = "") -> Html:
    """Return a page with one column; `refresh` is a URL that it redirects to."""
    masthead = tag(
        "header",
        tag("p", NAME, class_="seller"),
        tag("span", "Test mode: no money moves", class_="badge warn"),
        tag("p", back, class_="back") if back else None,
    )
    foot = tag(
        "footer", tag("p", NOTICE), tag("p", tag("a", "Sandbox dashboard", href="/"))
    )
    content = (masthead, tag("main", body), foot)
    body_html = tag("div", content, class_="sheet")
    return document(f"{title} · {NAME}", "hosted.css", body_html, refresh=refresh)


def unavailable_page(status: int, title: str, *sentences: Child) -> PageResult:
    """Return an error page with an explanation."""
    text = [tag("p", sentence) for sentence in sentences]
    body = panel(tag("h1", title), text, class_="notice-page")
    return PageResult(status, layout(title, body))


def panel(*body: Child, id: str | None = None, class_: str | None = None) -> Html:
    """Return a section of the page."""
    return tag("section", body, id=id, class_=class_)


def message(notice: str, error: str) -> Html | None:
    """Return the error, or else the notice, of the last action."""
    if error:
        return tag("p", error, class_="message bad", role="alert")
    return tag("p", notice, class_="message good", role="status") if notice else None


def post(action: str, *body: Child, class_: str | None = None) -> Html:
    """Return a form that posts to a URL."""
    return tag("form", body, method="post", action=action, class_=class_)


def field(label: str, name: str, value: str | None = None, **attributes: Any) -> Html:
    """Return a text field with its label."""
    return tag(
        "p",
        tag("label", label, for_=name),
        tag("input", name=name, id=name, value=value or None, **attributes),
        class_="field",
    )


def description_list(*pairs: tuple[str, Child]) -> Html:
    """Return a description list of the pairs that have a value."""
    rows = [
        tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value
    ]
    return tag("dl", rows)


def card_name(card: Mapping[str, Any]) -> str:
    """Return brand and last digits of a card: `Visa •••• 4242`."""
    brand = BRANDS.get(card["brand"], str(card["brand"]).capitalize())
    return f"{brand} •••• {card['last4']}"


def card_choices(action: str, choices: Sequence[CardChoice], submit: str) -> Html:
    """Return a button for each test card, and a field for another card number."""
    buttons = [tag("li", _card_button(choice)) for choice in choices]
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
        post(action, tag("ul", buttons, class_="cards")),
        tag("details", tag("summary", "Another test card"), other),
    )


def _card_button(choice: CardChoice) -> Html:
    card = test_cards.CARDS[choice.card]
    fields = {"brand": card.brand, "last4": card.last4}
    return tag(
        "button",
        tag("span", card_name(fields)),
        " ",
        tag("span", choice.outcome, class_="soft"),
        name="card",
        value=f"pm_card_{choice.card}",
    )
