"""The saved card that is charged for an invoice, and when: read at Stripe, cached."""

from dataclasses import asdict, dataclass, fields
from datetime import datetime

import structlog
from django.utils import timezone
from limits import parse

from billing.clients.stripe.client import Card, Stripe
from billing.clients.stripe.errors import StripeError
from billing.services.collection.attempts import next_attempt_at
from billing.services.collection.card_choice import (
    SavedCards,
    last_attempt_with,
    pick_card,
    read_cards,
)
from billing.services.payment_page.page import CardOption, PaymentPage
from billing.services.payment_page.timeouts import run_with_timeout
from caravel.core import cache
from caravel.core.rate_limit import delay_after_hit

logger = structlog.get_logger(__name__)

#: Seconds that the page waits for Stripe's list of cards that is not cached.
STRIPE_TIMEOUT = 2.0
_CACHE_SECONDS = 30
#: Age in seconds that the list may have just after somebody has added a card.
_RECENT_SECONDS = 2
#: How often a customer's list is read for people who say that they have added a card.
_RECENT_RATE = parse("10 per minute")
#: A version of Caravel that reads other fields ignores the entries.
_KEY = "saved-cards:" + ",".join(field.name for field in fields(Card))
_BRANDS = {"amex": "American Express", "unionpay": "UnionPay", "jcb": "JCB"}


@dataclass(frozen=True)
class SavedCard:
    """Card, or bank account, that is charged next; `name` is like "Visa •••• 4242".

    `refused_at` if it was charged last; then `retry_at` is the next attempt, None if
    there is none, or it is not known when it starts. Not `is_charged` if no saved card
    can pay: of a dispute, for example.
    """

    name: str
    refused_at: datetime | None = None
    retry_at: datetime | None = None
    is_charged: bool = True


def saved_card(page: PaymentPage, *, was_just_added: bool = False) -> SavedCard | None:
    """Return the card that will be charged, else one that is saved and will not be.

    None if there is none, or no answer.
    """
    if page.card_option != CardOption.SAVED:
        return None
    customer = page.invoice.stripe_customer_id
    max_age = _CACHE_SECONDS
    if was_just_added and not delay_after_hit(_RECENT_RATE, "cards", customer):
        max_age = _RECENT_SECONDS
    try:
        saved = run_with_timeout(STRIPE_TIMEOUT, lambda: _get_cards(customer, max_age))
    except (StripeError, TimeoutError) as exc:
        logger.warning("no_saved_card", error=str(exc) or "timeout")
        return None
    card = pick_card(saved, page.invoice)
    if card is None:
        others = [*filter(None, [saved.default]), *saved.cards]
        return SavedCard(_name(others[0]), is_charged=False) if others else None
    last = last_attempt_with(page.invoice, card)
    if last is None:
        return SavedCard(_name(card))
    return SavedCard(_name(card), refused_at=last.created_at, retry_at=_retry_at(page))


def _retry_at(page: PaymentPage) -> datetime | None:
    """Return when a card that was refused is charged again, as far as is known."""
    if page.lightning:
        # A bolt11 holds back an attempt that is due, and also the next ones.
        return None
    retry_at = next_attempt_at(page.invoice)
    return retry_at if retry_at and retry_at > page.now else None


def forget_cards(customer: str) -> None:
    """Read a customer's cards anew for the next page: one may be added now."""
    cache.delete(f"{_KEY}:{customer}")


def _get_cards(customer: str, max_age: int) -> SavedCards:
    now = timezone.now().timestamp()
    entry = cache.get(f"{_KEY}:{customer}")
    if entry and abs(now - entry["fetched_at"]) < max_age:
        default = entry["default"] and Card(**entry["default"])
        return SavedCards(default, tuple(Card(**card) for card in entry["cards"]))
    saved = read_cards(Stripe(), customer)
    entry = {**asdict(saved), "fetched_at": now}
    cache.set(f"{_KEY}:{customer}", entry, seconds=_CACHE_SECONDS)
    return saved


def _name(card: Card) -> str:
    brand = _BRANDS.get(card.brand, card.brand.replace("_", " ").title())
    kind = brand or ("Link" if card.type == "link" else "")
    if card.is_bank_account:
        kind = "Bank account"
    return f"{kind or 'Card'} •••• {card.last4}" if card.last4 else kind or "Your card"
