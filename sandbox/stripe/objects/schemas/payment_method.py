"""Fields of payment methods (SDK type PaymentMethod); all are cards."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.objects.fields import address
from sandbox.stripe.objects.schemas.test_cards import CARDS, Card


def new_payment_method(
    context: Context,
    name: str,
    *,
    exp_month: int | None = None,
    exp_year: int | None = None,
    cvc: bool = True,
) -> dict[str, Any]:
    """Return a payment method for a test card, not attached to a customer."""
    card = CARDS[name]
    today = datetime.fromtimestamp(context.now, UTC)
    return {
        "id": context.ids.new("pm"),
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": billing_details({}),
        "card": {
            **_card(card),
            "checks": {
                "address_line1_check": None,
                "address_postal_code_check": None,
                "cvc_check": "pass" if cvc else None,
            },
            "exp_month": exp_month or today.month,
            "exp_year": exp_year or today.year + 1,
        },
        "created": context.now,
        "customer": None,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "radar_options": None,
        "type": "card",
        "_card": name,
        # True once set up for off-session charges.
        "_set_up": card.set_up,
        # True once charged without a customer, or detached: unusable from then on.
        "_spent": False,
    }


def billing_details(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return billing details with all fields; missing ones are null."""
    names = ("email", "name", "phone", "tax_id")
    return {
        "address": address(params.get("address") or {}),
        **{name: params.get(name) for name in names},
    }


def _card(card: Card) -> dict[str, Any]:
    return {
        "brand": card.brand,
        "country": "US",
        "description": None,
        "display_brand": card.brand,
        "fingerprint": hashlib.sha256(card.number.encode()).hexdigest()[:16],
        "funding": card.funding,
        "generated_from": None,
        "iin": None,
        "issuer": None,
        "last4": card.last4,
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
