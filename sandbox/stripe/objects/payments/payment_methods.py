"""Payment methods: test cards and test bank accounts.

Source: API reference, PaymentMethods.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Choice,
    Hash,
    Integer,
    Metadata,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.fields import copy_params, nulls
from sandbox.stripe.objects.schemas import test_cards
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.schemas.test_bank_accounts import ACCOUNTS
from sandbox.stripe.store.records import Record

KIND = "payment_method"
URL = "/v1/payment_methods"
OBJECT_URL = f"{URL}/{{id}}"
resource = Resource(KIND, indexes=("customer",))

UPDATE = Shape(
    {
        "allow_redisplay": Choice(("always", "limited", "unspecified")),
        "billing_details": Hash(
            dict.fromkeys(("email", "name", "phone"), Text(unset=True))
        ),
        "card": Hash({"exp_month": Integer(1, 12), "exp_year": Integer(1970, 9_999)}),
        "metadata": Metadata(),
    }
)
TYPE = Choice(("card", "link", "sepa_debit", "us_bank_account"))
NULL_CARD_FIELDS = nulls("description generated_from iin issuer wallet")


@resource.get(URL, listing(customer=Text(), type=TYPE))
def list_(context: Context, params: Params) -> Record:
    """Return a customer's payment methods, or (assumed) all attached ones."""
    customer, type = params.get("customer"), params.get("type")
    if customer:
        context.get_referenced("customer", customer, "customer")
    return page(
        context.store,
        KIND,
        URL,
        params,
        filters={"customer": customer},
        where=lambda method: method["customer"] and type in (None, method["type"]),
    )


resource.retrievable(URL)


@resource.post(
    f"{OBJECT_URL}/attach", Shape({"customer": Text()}, required=("customer",))
)
def attach_to(context: Context, params: Params, id: str) -> Record:
    """Attach a payment method to a customer. Raises a 400, a 402 or a 404.

    A name such as `pm_card_visa` creates a new one.
    """
    context.get_referenced("customer", params["customer"], "customer")
    name = test_cards.name_from_id(id)
    if name or id in ACCOUNTS:
        method = create_from_name(context, id)
    else:
        method = context.get(KIND, id)
    return attach(context, method, params["customer"])


@resource.post(f"{OBJECT_URL}/detach", Shape())
def detach_one(context: Context, params: Params, id: str) -> Record:
    """Detach a payment method permanently. Raises a 400 or a 404."""
    if context.get(KIND, id)["customer"] is None:
        raise invalid(
            "The payment method you provided is not attached to a customer so "
            "detachment is impossible."
        )
    return detach(context, id)


@resource.post(OBJECT_URL, UPDATE)
def update(context: Context, params: Params, id: str) -> Record:
    """Update a payment method that is attached to a customer. Raises a 400 or a 404."""
    if context.get(KIND, id)["customer"] is None:
        raise invalid("You must attach this PaymentMethod to a customer to update it.")
    with context.update(KIND, id, "payment_method.updated") as method:
        copy_params(method, params, "allow_redisplay", "metadata")
        method["billing_details"].update(params.get("billing_details", {}))
        if "card" in params:
            if method["type"] != "card":
                raise invalid("This PaymentMethod is not a card.", param="card")
            method["card"].update(params["card"])
    return method


def reissue(context: Context, id: str, card: str) -> Record:
    """Replace a saved card in place, as the network does; it has another number.

    Sources: docs page "Automatic card updates"; SDK docstring of `card.fingerprint`
    ("uniquely identifies this particular card number"). Raises a 400 or a 404.
    """
    name = test_cards.name_from_id(card)
    if name is None or context.get(KIND, id)["type"] != "card":
        raise invalid("Only a test card can replace a card.")
    with context.update(KIND, id, "payment_method.automatically_updated") as method:
        method.update(card=_card_fields(context, name), _card=name)
    return method


def create_from_name(context: Context, id: str) -> Record:
    """Create a payment method from the name of a test card or bank account.

    The number of a test card will do, too. Raises a 402.
    """
    if id in ACCOUNTS:
        return _create_bank_account(context, id)
    name = test_cards.name_from_id(id) or test_cards.name_from_number(id)
    return _create(context, name)


def attach(
    context: Context, method: Record, customer: str, *, set_up: bool = False
) -> Record:
    """Attach a payment method. Raises a 400, or a 402 if the issuer declines.

    Attaching it again to the same customer changes nothing (assumed).
    """
    if method["_spent"]:
        raise invalid(
            "This PaymentMethod was previously used without being attached to a "
            "Customer or was detached from a Customer, and may not be used again."
        )
    if method["customer"] == customer:
        return method
    if method["customer"] is not None:
        raise invalid(
            "The payment method you provided has already been attached to a customer."
        )
    card = test_cards.CARDS.get(method.get("_card", ""))
    if card and not card.attachable and card.decline_reason:
        raise test_cards.decline_error(test_cards.Decline(card.decline_reason))
    set_up = set_up or method["_set_up"]
    attached = context.change(KIND, method["id"], customer=customer, _set_up=set_up)
    context.emit("payment_method.attached", attached)
    return attached


def detach(context: Context, id: str) -> Record:
    """Detach a payment method and clear every default that names it."""
    customer = context.get(KIND, id)["customer"]
    detached = context.change(KIND, id, customer=None, _spent=True)
    # Stripe's event names the customer only in `previous_attributes`.
    context.emit("payment_method.detached", detached, {"customer": customer})
    _clear_defaults(context, customer, id)
    return detached


def detach_all(context: Context, customer: str) -> None:
    """Detach all payment methods of a customer."""
    for method in context.store.scan(KIND, index=("customer", customer)):
        detach(context, method["id"])


def set_default(context: Context, customer: str, id: str | None) -> None:
    """Make a payment method the customer's default."""
    with context.update("customer", customer, "customer.updated") as draft:
        draft["invoice_settings"]["default_payment_method"] = id


def record_charge(context: Context, method: Record) -> None:
    """Mark a charged card without a customer as used."""
    if method["customer"] is None and not method["_spent"]:
        context.change(KIND, method["id"], _spent=True)


def require_attached(
    context: Context, id: str | None, customer: str, param: str
) -> None:
    """Raise a 400 unless the payment method is attached to the customer."""
    if id is None:
        return
    if context.get_referenced(KIND, id, param)["customer"] != customer:
        raise invalid(
            f"The customer does not have a payment method with the ID {id}. The "
            "payment method must be attached to the customer.",
            param=param,
            code="resource_missing",
        )


def is_attached(context: Context, id: str | None, customer: str) -> bool:
    """Return whether the payment method is attached to the customer."""
    method = context.store.get(KIND, id) if id else None
    return method is not None and method["customer"] == customer


def _create(context: Context, name: str) -> Record:
    """Store a payment method for a test card, not attached to a customer."""
    method = {
        **_new_method(context, "card"),
        "card": _card_fields(context, name),
        "_card": name,
        # True once set up for off-session charges.
        "_set_up": test_cards.CARDS[name].set_up,
    }
    return context.insert(method)


def _card_fields(context: Context, name: str) -> dict[str, Any]:
    card = test_cards.CARDS[name]
    today = datetime.fromtimestamp(context.now, UTC)
    return {
        **NULL_CARD_FIELDS,
        "brand": card.brand,
        "checks": {
            **nulls("address_line1_check address_postal_code_check"),
            "cvc_check": "pass",
        },
        "country": "US",
        "display_brand": card.brand,
        "exp_month": today.month,
        "exp_year": today.year + 1,
        "fingerprint": hashlib.sha256(card.number.encode()).hexdigest()[:16],
        "funding": card.funding,
        "last4": card.last4,
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
    }


def _create_bank_account(context: Context, name: str) -> Record:
    """Store a payment method for a test bank account."""
    account = ACCOUNTS[name]
    method = _new_method(context, account.type)
    method["billing_details"] |= {"email": "jane@example.com", "name": "Jane Doe"}
    return context.insert(
        {
            **method,
            account.type: account.of_method(),
            "_bank_account": name,
            "_set_up": True,
        }
    )


def _new_method(context: Context, type: str) -> dict[str, Any]:
    return {
        **context.new(KIND, "pm"),
        "allow_redisplay": "unspecified",
        "billing_details": {
            "address": nulls("city country line1 line2 postal_code state"),
            **nulls("email name phone tax_id"),
        },
        "customer": None,
        "customer_account": None,
        "metadata": {},
        "type": type,
        # True once charged without a customer, or detached: unusable from then on.
        "_spent": False,
    }


def _clear_defaults(context: Context, customer: str, method: str) -> None:
    owner = context.store.get("customer", customer) or {}
    if owner.get("invoice_settings", {}).get("default_payment_method") == method:
        set_default(context, customer, None)
    for subscription in context.store.scan(
        "subscription", index=("customer", customer)
    ):
        ended = subscription["status"] in ENDED
        if subscription["default_payment_method"] == method and not ended:
            id, event = subscription["id"], "customer.subscription.updated"
            context.change("subscription", id, event, default_payment_method=None)
