"""Payment methods, all of them cards (docs: API reference, PaymentMethods)."""

from collections.abc import Mapping
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import StripeError, invalid, missing, rejected
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
from sandbox.stripe.objects.fields import ADDRESS, merge_metadata, new_metadata
from sandbox.stripe.objects.schemas import test_cards
from sandbox.stripe.objects.schemas.payment_method import (
    billing_details,
    new_payment_method,
)
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.store.records import Record

KIND = "payment_method"
URL = "/v1/payment_methods"
OBJECT_URL = f"{URL}/{{id}}"
OF_CUSTOMER = "/v1/customers/{customer}/payment_methods"
resource = Resource(KIND, indexes=("customer",))

REDISPLAY = Choice(("always", "limited", "unspecified"))
TYPE = Choice(("card", "link", "sepa_debit", "us_bank_account"))
BILLING_DETAILS = Hash(
    {
        "address": ADDRESS,
        "email": Text(unset=True),
        "name": Text(unset=True),
        "phone": Text(unset=True),
        "tax_id": Text(),
    }
)
CREATE = Shape(
    {
        "allow_redisplay": REDISPLAY,
        "billing_details": BILLING_DETAILS,
        "card": Hash(
            {
                "cvc": Text(),
                "exp_month": Integer(),
                "exp_year": Integer(),
                "number": Text(),
                "token": Text(),
            }
        ),
        "metadata": Metadata(),
        "type": Choice(("card",)),
    },
    required=("type", "card"),
)
UPDATE = Shape(
    {
        "allow_redisplay": REDISPLAY,
        "billing_details": BILLING_DETAILS,
        "card": Hash({"exp_month": Integer(1, 12), "exp_year": Integer(1970, 9999)}),
        "metadata": Metadata(),
    }
)
FILTERS = {"allow_redisplay": REDISPLAY, "type": TYPE}


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a card that is not attached to a customer. Raises a 400 or a 402."""
    method = _from_card_data(context, params["card"])
    method["billing_details"] = billing_details(params.get("billing_details", {}))
    method["allow_redisplay"] = params.get("allow_redisplay", "unspecified")
    method["metadata"] = new_metadata(params)
    return context.insert(method)


@resource.get(URL, listing(customer=Text(), **FILTERS))
def list_(context: Context, params: Params) -> Record:
    """Return a customer's payment methods, or (assumed) all attached ones."""
    if "customer" in params:
        context.get_referenced("customer", params["customer"], "customer")
    return _page(context, params, URL, params.get("customer"))


@resource.get(OF_CUSTOMER, listing(**FILTERS))
def list_of_customer(context: Context, params: Params, customer: str) -> Record:
    """Return a customer's payment methods. Raises a 404 for an unknown customer."""
    context.get("customer", customer)
    return _page(context, params, OF_CUSTOMER.format(customer=customer), customer)


@resource.get(OBJECT_URL, Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a payment method, attached or not. Raises a 404."""
    return context.get(KIND, id)


@resource.get(f"{OF_CUSTOMER}/{{id}}", Shape())
def retrieve_of_customer(
    context: Context, params: Params, customer: str, id: str
) -> Record:
    """Return a payment method of the customer. Raises a 404."""
    if context.get(KIND, id)["customer"] != customer:
        raise missing("PaymentMethod", id)
    return context.get(KIND, id)


@resource.post(OBJECT_URL, UPDATE)
def update(context: Context, params: Params, id: str) -> Record:
    """Update an attached payment method. Raises a 400 or a 404."""
    if context.get(KIND, id)["customer"] is None:
        raise invalid(
            "You must save this PaymentMethod to a customer before you can update it."
        )
    with context.update(KIND, id, "payment_method.updated") as draft:
        details = {**draft["billing_details"], **params.get("billing_details", {})}
        draft["billing_details"] = billing_details(details)
        draft["card"].update(params.get("card", {}))
        if "metadata" in params:
            draft["metadata"] = merge_metadata(draft["metadata"], params["metadata"])
        if "allow_redisplay" in params:
            draft["allow_redisplay"] = params["allow_redisplay"]
    return context.get(KIND, id)


@resource.post(
    f"{OBJECT_URL}/attach", Shape({"customer": Text()}, required=("customer",))
)
def attach_to(context: Context, params: Params, id: str) -> Record:
    """Attach a payment method to a customer. Raises a 400, a 402 or a 404.

    A name such as `pm_card_visa` creates a new one.
    """
    context.get_referenced("customer", params["customer"], "customer")
    method = create_from_name(context, id) or context.get(KIND, id)
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


def create_from_name(context: Context, id: str) -> Record | None:
    """Create a payment method from a name such as `pm_card_visa`, else return None."""
    name = test_cards.name_from_id(id)
    return context.insert(new_payment_method(context, name)) if name else None


def create_from_card(context: Context, card: str) -> Record:
    """Create a payment method from a test card's name or number. Raises a 402."""
    name = test_cards.name_from_id(card) or test_cards.name_from_number(card)
    return context.insert(new_payment_method(context, name))


def attach(
    context: Context, method: Record, customer: str, *, set_up: bool = False
) -> Record:
    """Attach a payment method. Raises a 400, or a 402 if the issuer declines.

    Attaching it again to the same customer changes nothing (assumed).
    """
    card = test_cards.CARDS[method["_card"]]
    if method["_spent"]:
        raise _already_used()
    if method["customer"] not in (None, customer):
        raise invalid(
            "The payment method you provided has already been attached to a customer."
        )
    if not card.attachable and card.decline_reason:
        raise test_cards.decline_error(test_cards.Decline(card.decline_reason))
    if method["customer"] == customer and not set_up:
        return method
    with context.update(KIND, method["id"]) as draft:
        draft.update(customer=customer, _set_up=draft["_set_up"] or set_up)
    attached = context.get(KIND, method["id"])
    if method["customer"] is None:
        context.emit("payment_method.attached", attached)
    return attached


def detach(context: Context, id: str) -> Record:
    """Detach a payment method and clear every default that names it."""
    customer = context.get(KIND, id)["customer"]
    with context.update(KIND, id) as draft:
        draft.update(customer=None, _spent=True)
    detached = context.get(KIND, id)
    # Stripe's event names the customer only in `previous_attributes`.
    context.emit("payment_method.detached", detached, {"customer": customer})
    _clear_defaults(context, customer, id)
    return detached


def detach_all(context: Context, customer: str) -> None:
    """Detach all payment methods of a customer."""
    for method in list(context.store.scan(KIND, index=("customer", customer))):
        detach(context, method["id"])


def record_charge(
    context: Context, method: Record, customer: str, *, save: bool
) -> None:
    """Attach the charged card if `save` is set, else mark an unattached one used."""
    if method["_spent"]:
        return
    if save and test_cards.CARDS[method["_card"]].attachable:
        attach(context, method, customer, set_up=True)
    elif method["customer"] is None:
        with context.update(KIND, method["id"]) as draft:
            draft["_spent"] = True


def get_usable(context: Context, id: str, customer: str, param: str) -> Record:
    """Return a method for an on-session payment: the customer's, or an unattached one.

    Raises a 400.
    """
    method = create_from_name(context, id) or context.get_referenced(KIND, id, param)
    if method["_spent"]:
        raise _already_used()
    if method["customer"] not in (None, customer):
        raise _not_attached(id, param)
    return method


def require_attached(
    context: Context, id: str | None, customer: str, param: str
) -> None:
    """Raise a 400 unless the payment method is attached to the customer."""
    if id is None:
        return
    if context.get_referenced(KIND, id, param)["customer"] != customer:
        raise _not_attached(id, param)


def is_attached(context: Context, id: str | None, customer: str) -> bool:
    """Return whether the payment method is attached to the customer."""
    method = context.store.get(KIND, id) if id else None
    return method is not None and method["customer"] == customer


def _page(
    context: Context, params: Params, url: str, customer: str | None
) -> dict[str, Any]:
    def matches(record: Record) -> bool:
        return record["customer"] is not None and all(
            record[name] == params[name] for name in FILTERS if name in params
        )

    index = ("customer", customer) if customer else None
    return page(context.store, KIND, url, params, index=index, where=matches)


def _from_card_data(context: Context, card: Mapping[str, Any]) -> dict[str, Any]:
    if "token" in card:
        name = test_cards.name_from_id(card["token"])
        if name is None:
            raise missing("token", card["token"], param="card[token]", status=400)
        return new_payment_method(context, name)
    for field in ("number", "exp_month", "exp_year"):
        if field not in card:
            raise rejected(
                f"Missing required param: card[{field}].",
                param=f"card[{field}]",
                code="parameter_missing",
            )
    name = test_cards.name_from_number(card["number"])
    month, year = card["exp_month"], _four_digit_year(card["exp_year"])
    test_cards.check_data(context.now, month, year, card.get("cvc"))
    return new_payment_method(
        context, name, exp_month=month, exp_year=year, cvc="cvc" in card
    )


def _four_digit_year(year: int) -> int:
    """Expand a two-digit year: 30 is 2030, 95 is 1995."""
    if not 0 <= year < 100:
        return year
    return year + (2_000 if year < 70 else 1_900)


def _clear_defaults(context: Context, customer: str, method: str) -> None:
    owner = context.store.get("customer", customer) or {}
    if owner.get("invoice_settings", {}).get("default_payment_method") == method:
        with context.update("customer", customer, "customer.updated") as draft:
            draft["invoice_settings"]["default_payment_method"] = None
    subscriptions = context.store.scan("subscription", index=("customer", customer))
    for subscription in list(subscriptions):
        ended = subscription["status"] in ENDED
        if subscription["default_payment_method"] == method and not ended:
            event = "customer.subscription.updated"
            with context.update("subscription", subscription["id"], event) as draft:
                draft["default_payment_method"] = None


def _already_used() -> StripeError:
    return invalid(
        "This PaymentMethod was previously used without being attached to a Customer "
        "or was detached from a Customer, and may not be used again."
    )


def _not_attached(id: str, param: str) -> StripeError:
    return invalid(
        f"The customer does not have a payment method with the ID {id}. The payment "
        "method must be attached to the customer.",
        param=param,
        code="resource_missing",
    )
