"""The card of a customer that is charged for an invoice.

The customer's default may also be a bank account.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db.models import Q

from billing.clients.stripe.client import Card, Customer, Stripe
from billing.models import CardAttempt, InvoiceCollection
from billing.services.collection.cards import is_same_card
from billing.services.reversals.cards import blocked_cards

State = CardAttempt.State
#: Codes after which the same card or bank account is not charged again.
#: https://docs.stripe.com/declines/codes
#: https://docs.stripe.com/payments/ach-direct-debit#failed-payments
HARD_DECLINES = frozenset(
    {
        "account_closed",
        "debit_not_authorized",
        "lost_card",
        "no_account",
        "pickup_card",
        "revocation_of_all_authorizations",
        "revocation_of_authorization",
        "stolen_card",
        "stop_payment_order",
    }
)
#: Currencies of the bank debits that are charged if they are the customer's default:
#: https://docs.stripe.com/payments/bank-debits
_DEBIT_CURRENCIES = {
    "acss_debit": ("cad", "usd"),
    "au_becs_debit": ("aud",),
    "bacs_debit": ("gbp",),
    "nz_bank_account": ("nzd",),
    "sepa_debit": ("eur",),
    "us_bank_account": ("usd",),
}
#: Types that are charged at once, in any currency.
_INSTANT_TYPES = ("card", "link")
_DO_NOT_RETRY_ADVICE = "do_not_try_again"
_HARD_DECLINE = Q(code__in=HARD_DECLINES) | Q(advice_code=_DO_NOT_RETRY_ADVICE)


@dataclass(frozen=True)
class SavedCards:
    """A customer's payment methods: the default, if any, and all cards, newest first.

    The default may be a bank account.
    """

    default: Card | None
    cards: tuple[Card, ...]


def choose_card(stripe: Stripe, collection: InvoiceCollection) -> Card | None:
    """Return the card to charge, as in `pick_card`, and make it the default.

    Another default stays, unless it was refused before the card was added.
    """
    saved = read_cards(stripe, collection.stripe_customer_id)
    card = pick_card(saved, collection)
    is_replacement = card in _added_after_refusal(saved, collection)
    if card and (saved.default is None or is_replacement):
        stripe.customers.set_default_card(collection.stripe_customer_id, card.id)
    return card


def read_cards(stripe: Stripe, customer_id: str) -> SavedCards:
    """Return a customer's payment methods, none if it was deleted."""
    customer = stripe.customers.get(customer_id)
    if customer.deleted:
        return SavedCards(None, ())
    attached = tuple(stripe.payment_methods.list_cards(customer.id))
    return SavedCards(_default_of(stripe, customer, attached), attached)


def pick_card(saved: SavedCards, collection: InvoiceCollection) -> Card | None:
    """Return the card to charge: the customer's default, else the newest, else None.

    A card that was added since the default was refused comes first. What cannot pay
    the invoice is skipped, as are cards with a hard decline, and those of a dispute or
    an early fraud warning.
    """
    default = [saved.default] if saved.default else []
    is_excluded = exclusion(collection.tenant_id)
    for card in [*_added_after_refusal(saved, collection), *default, *saved.cards]:
        if not is_excluded(card) and can_pay(card, collection.currency):
            return card
    return None


def last_attempt_with(collection: InvoiceCollection, card: Card) -> CardAttempt | None:
    """Return the last attempt for an invoice if it was with this card.

    Hard declines are left out: after one, a card that was refused before is the next
    again, and would be charged a second time though nothing about it is new.
    """
    last = collection.card_attempts.exclude(_HARD_DECLINE).first()
    return last if last and is_same_card(last, card) else None


def exclusion(tenant_id: str) -> Callable[[Card], bool]:
    """Return a test for cards that are not charged any more.

    Those are cards with a hard decline, a dispute or an early fraud warning.
    """
    attempts = CardAttempt.objects.filter(collection__tenant=tenant_id)
    declined = list(attempts.filter(_HARD_DECLINE))
    blocked, fingerprints = blocked_cards(tenant_id)

    def is_excluded(card: Card) -> bool:
        is_blocked = card.id in blocked or card.fingerprint in fingerprints
        return is_blocked or any(is_same_card(each, card) for each in declined)

    return is_excluded


def _default_of(
    stripe: Stripe, customer: Customer, cards: Iterable[Card]
) -> Card | None:
    if not customer.default_card:
        return None
    found = [card for card in cards if card.id == customer.default_card]
    # Only cards are listed.
    return found[0] if found else stripe.payment_methods.get(customer.default_card)


def _added_after_refusal(
    saved: SavedCards, collection: InvoiceCollection
) -> list[Card]:
    """Return the cards that were added since the default was refused.

    Each is left out once it has been charged: then the default was chosen since.
    """
    attempts = CardAttempt.objects.filter(collection__tenant=collection.tenant_id)
    default = saved.default
    last = default and attempts.filter(payment_method=default.id).first()
    if not default or not last or not is_same_card(last, default):
        return []
    if last.state not in {State.REFUSED, State.ACTION_REQUIRED}:
        return []
    charged = set(attempts.values_list("payment_method", flat=True))
    refused_at = last.created_at.timestamp()
    return [
        card
        for card in saved.cards
        if card.created > refused_at and card.id not in charged
    ]


def can_pay(card: Card, currency: str) -> bool:
    """Return whether a card or bank account can pay an invoice in this currency."""
    return card.type in _INSTANT_TYPES or currency in _DEBIT_CURRENCIES.get(
        card.type, ()
    )
