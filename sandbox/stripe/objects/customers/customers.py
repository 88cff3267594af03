"""Customers (docs: API reference, Customers)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.pagination import list_object, page
from sandbox.stripe.api.params import (
    Array,
    Choice,
    Hash,
    Integer,
    Kind,
    Metadata,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.balances import balance_transactions
from sandbox.stripe.objects.fields import (
    ADDRESS,
    address,
    copy_params,
    merge_metadata,
)
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.schemas import subscription as subscription_shape
from sandbox.stripe.objects.subscriptions import cancel
from sandbox.stripe.store.records import Record, Store

URL = "/v1/customers"
DEFAULT_PAYMENT_METHOD = "invoice_settings[default_payment_method]"
COPIED_FIELDS = (
    "business_name",
    "description",
    "email",
    "individual_name",
    "invoice_prefix",
    "name",
    "next_invoice_sequence",
    "phone",
    "preferred_locales",
    "tax_exempt",
)
FIELDS: dict[str, Kind] = {
    "address": ADDRESS,
    "balance": Integer(),
    "business_name": Text(unset=True, max_length=150),
    "description": Text(unset=True),
    "email": Text(unset=True, max_length=512),
    "individual_name": Text(unset=True, max_length=150),
    "invoice_prefix": Text(max_length=12),
    "invoice_settings": Hash(
        {
            "default_payment_method": Text(unset=True),
            "footer": Text(unset=True),
        }
    ),
    "metadata": Metadata(),
    "name": Text(unset=True, max_length=256),
    "next_invoice_sequence": Integer(1),
    "phone": Text(unset=True, max_length=20),
    "preferred_locales": Array(Text()),
    "tax_exempt": Choice(("exempt", "none", "reverse"), unset=True),
}


def _subscriptions(store: Store, customer: Record) -> dict[str, Any]:
    live = [
        subscription_shape.render(store, record)
        for record in store.scan("subscription", index=("customer", customer["id"]))
        if record["status"] not in subscription_shape.ENDED
    ]
    return list_object(live, f"{URL}/{customer['id']}/subscriptions")


resource = Resource(
    "customer",
    indexes=("email",),
    includable={"subscriptions": _subscriptions},
)


@resource.post(URL, Shape({**FIELDS, "payment_method": Text()}))
def create(context: Context, params: Params) -> Record:
    """Create a customer, optionally with a card. Raises a 400 or a 402."""
    customer = _new_customer(context)
    _assign(customer, params)
    card = _initial_card(context, customer, params.get("payment_method"))
    balance = params.get("balance", 0)
    if balance:
        # A balance needs a currency. Assumed: the account's default.
        customer.update(balance=balance, currency="usd")
    context.insert(customer, "customer.created")
    if balance:
        balance_transactions.record_initial(context, customer)
    if card:
        payment_methods.attach(context, card, customer["id"])
    return context.get("customer", customer["id"])


@resource.get(URL, listing(created=Range(), email=Text(max_length=512)))
def list_(context: Context, params: Params) -> Record:
    """Return customers, newest first; `email` matches exactly, case included."""
    email = params.get("email")
    return page(
        context.store,
        "customer",
        URL,
        params,
        index=("email", email) if email else None,
        where=lambda record: not record.get("deleted"),
    )


@resource.get(f"{URL}/{{id}}", Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a customer, or the tombstone of a deleted one. Raises a 404."""
    return context.get("customer", id)


@resource.post(f"{URL}/{{id}}", Shape(FIELDS))
def update(context: Context, params: Params, id: str) -> Record:
    """Update a customer. Raises a 404 for an unknown or deleted one."""
    context.get_live("customer", id)
    if "balance" in params:
        _set_balance(context, id, params["balance"])
    default = params.get("invoice_settings", {}).get("default_payment_method")
    payment_methods.require_attached(context, default, id, DEFAULT_PAYMENT_METHOD)
    with context.update("customer", id, "customer.updated") as customer:
        _assign(customer, params)
    return context.get("customer", id)


@resource.delete(f"{URL}/{{id}}", Shape())
def delete(context: Context, params: Params, id: str) -> Record:
    """Delete a customer and cancel its subscriptions at once. Raises a 404."""
    customer = context.get_live("customer", id)
    live = context.store.scan("subscription", index=("customer", id))
    for subscription in list(live):
        if subscription["status"] not in subscription_shape.ENDED:
            cancel.cancel(context, subscription["id"])
    context.emit("customer.deleted", customer)
    tombstone = {
        "id": id,
        "object": "customer",
        "created": customer["created"],
        "deleted": True,
        # Its drafts can still be finalized: they need the number, name and balance.
        "_last": {**customer, "deleted": True},
    }
    context.store.put("customer", tombstone)
    payment_methods.detach_all(context, id)
    return tombstone


def _initial_card(
    context: Context, customer: dict[str, Any], id: str | None
) -> Record | None:
    """Return the card to attach to a new customer. No other card can be its default.

    If both parameters are `pm_card_visa`, they mean one new card.
    """
    card = None
    if id is not None:
        card = payment_methods.get_usable(context, id, customer["id"], "payment_method")
    default = customer["invoice_settings"]["default_payment_method"]
    if card and default == id:
        customer["invoice_settings"]["default_payment_method"] = card["id"]
    else:
        payment_methods.require_attached(
            context, default, customer["id"], DEFAULT_PAYMENT_METHOD
        )
    return card


def _set_balance(context: Context, id: str, balance: int) -> None:
    customer = context.get("customer", id)
    amount = balance - customer["balance"]
    if amount:
        balance_transactions.adjust(context, id, amount, customer["currency"] or "usd")


def _assign(customer: dict[str, Any], params: Params) -> None:
    copy_params(customer, params, *COPIED_FIELDS)
    if "address" in params:
        customer["address"] = address(params["address"])
    if "metadata" in params:
        customer["metadata"] = merge_metadata(customer["metadata"], params["metadata"])
    customer["invoice_settings"].update(params.get("invoice_settings", {}))


def _new_customer(context: Context) -> dict[str, Any]:
    return {
        "id": context.ids.new("cus", 14),
        "object": "customer",
        "address": None,
        "balance": 0,
        "business_name": None,
        "created": context.now,
        "currency": None,
        "customer_account": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "discount": None,
        "email": None,
        "individual_name": None,
        "invoice_prefix": context.ids.invoice_prefix(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }
