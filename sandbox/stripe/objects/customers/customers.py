"""Customers (docs: API reference, Customers)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import missing
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import Hash, Kind, Metadata, Range, Shape, Text, listing
from sandbox.stripe.api.routing import Params, Resource, public
from sandbox.stripe.objects.discounts import discounts
from sandbox.stripe.objects.discounts.discounts import of_customer
from sandbox.stripe.objects.fields import copy_params, nulls
from sandbox.stripe.objects.payments import payment_methods
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import cancel
from sandbox.stripe.store.records import Record, Store

URL = "/v1/customers"
OBJECT_URL = f"{URL}/{{id}}"


def _render(store: Store, record: Record) -> dict[str, Any]:
    found = (store.get(discounts.KIND, id) for id in of_customer(store, record["id"]))
    discount = next(filter(None, found), None)
    rendered = discount and discounts.resource.render(store, discount)
    return {**public(store, record), "discount": rendered}


resource = Resource("customer", indexes=("email",), render=_render)
FIELDS: dict[str, Kind] = {
    "email": Text(unset=True, max_length=512),
    "invoice_settings": Hash({"default_payment_method": Text(unset=True)}),
    "metadata": Metadata(),
    "name": Text(unset=True, max_length=256),
    "phone": Text(unset=True, max_length=20),
}
UNUSED = nulls(
    """
    address customer_account default_source description shipping test_clock
    """
)
resource.retrievable(URL)


@resource.post(URL, Shape(FIELDS))
def create(context: Context, params: Params) -> Record:
    """Create a customer. Raises a 400."""
    customer = _new_customer(context)
    _assign(context, customer, params)
    return context.insert(customer, "customer.created")


@resource.get(URL, listing(created=Range(), email=Text(max_length=512)))
def list_(context: Context, params: Params) -> Record:
    """Return customers, newest first; `email` matches exactly, case included."""
    return page(
        context.store,
        "customer",
        URL,
        params,
        filters={"email": params.get("email")},
        where=lambda record: not record.get("deleted"),
    )


@resource.post(OBJECT_URL, Shape(FIELDS))
def update(context: Context, params: Params, id: str) -> Record:
    """Update a customer. Raises a 404 for an unknown or deleted one."""
    context.get_live("customer", id)
    with context.update("customer", id, "customer.updated") as customer:
        _assign(context, customer, params)
    return customer


@resource.delete(f"{OBJECT_URL}/discount", Shape())
def delete_discount(context: Context, params: Params, id: str) -> Record:
    """Remove the discount of a customer. Raises a 404 if it has none."""
    context.get_live("customer", id)
    ids = of_customer(context.store, id)
    if not ids:
        raise missing("active discount for customer", id)
    return discounts.deleted(discounts.end_and_update_owner(context, ids[0]))


@resource.delete(OBJECT_URL, Shape())
def delete(context: Context, params: Params, id: str) -> Record:
    """Delete a customer and cancel its subscriptions at once. Raises a 404."""
    customer = context.get_live("customer", id)
    for subscription in context.store.scan("subscription", index=("customer", id)):
        if subscription["status"] not in ENDED:
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


def _assign(context: Context, customer: dict[str, Any], params: Params) -> None:
    settings = params.get("invoice_settings", {})
    payment_methods.require_attached(
        context,
        settings.get("default_payment_method"),
        customer["id"],
        "invoice_settings[default_payment_method]",
    )
    copy_params(customer, params, "email", "metadata", "name", "phone")
    customer["invoice_settings"].update(settings)


def _new_customer(context: Context) -> dict[str, Any]:
    return {
        **context.new("customer", "cus", 14),
        "balance": 0,
        "delinquent": False,
        "invoice_prefix": context.ids.invoice_prefix(),
        "invoice_settings": nulls(
            "custom_fields default_payment_method footer rendering_options"
        ),
        "metadata": {},
        "next_invoice_sequence": 1,
        "preferred_locales": [],
        "tax_exempt": "none",
        **UNUSED,
        **nulls("currency email name phone"),
    }
