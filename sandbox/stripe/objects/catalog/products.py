"""Products (docs: API reference, Products)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Array,
    Boolean,
    Kind,
    Metadata,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.fields import copy_params, merge_metadata
from sandbox.stripe.store.records import Record

URL = "/v1/products"
resource = Resource("product")

COPIED_FIELDS = (
    "active",
    "description",
    "images",
    "name",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
)
FIELDS: dict[str, Kind] = {
    "active": Boolean(),
    "description": Text(unset=True),
    "images": Array(Text(), maximum=8),
    "metadata": Metadata(),
    "name": Text(),
    "shippable": Boolean(),
    "statement_descriptor": Text(unset=True, max_length=22),
    "tax_code": Text(unset=True),
    "unit_label": Text(unset=True),
    "url": Text(unset=True),
}


@resource.post(URL, Shape({**FIELDS, "id": Text()}, required=("name",)))
def create(context: Context, params: Params) -> Record:
    """Create a product, with the given id if any. Raises a 400."""
    id = params.get("id") or context.ids.new("prod", 14)
    if context.store.get("product", id):
        raise invalid(
            "Product already exists.", param="id", code="resource_already_exists"
        )
    return add(context, params, id)


@resource.get(URL, listing(active=Boolean(), created=Range(), ids=Array(Text())))
def list_(context: Context, params: Params) -> Record:
    """Return products, newest first."""
    active, ids = params.get("active"), params.get("ids")

    def matches(record: Record) -> bool:
        return (active is None or record["active"] is active) and (
            not ids or record["id"] in ids
        )

    return page(context.store, "product", URL, params, where=matches)


@resource.get(f"{URL}/{{id}}", Shape())
def retrieve(context: Context, params: Params, id: str) -> Record:
    """Return a product. Raises a 404."""
    return context.get("product", id)


@resource.post(f"{URL}/{{id}}", Shape({**FIELDS, "default_price": Text()}))
def update(context: Context, params: Params, id: str) -> Record:
    """Update a product. Raises a 404."""
    with context.update("product", id, "product.updated") as product:
        _assign(product, params)
        product["updated"] = context.now
    return context.get("product", id)


@resource.delete(f"{URL}/{{id}}", Shape())
def delete(context: Context, params: Params, id: str) -> Record:
    """Delete a product without prices. Raises a 400 or a 404."""
    product = context.get("product", id)
    if next(context.store.scan("price", index=("product", id)), None):
        raise invalid(
            "This product cannot be deleted because it has one or more user-created "
            "prices."
        )
    context.store.delete("product", id)
    context.emit("product.deleted", product)
    return {"id": id, "object": "product", "deleted": True}


def add(context: Context, params: Params, id: str | None = None) -> Record:
    """Store a new product and emit `product.created`."""
    product: dict[str, Any] = {
        "id": id or context.ids.new("prod", 14),
        "object": "product",
        "active": True,
        "created": context.now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": False,
        "marketing_features": [],
        "metadata": {},
        "name": "",
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "tax_details": None,
        "type": "service",
        "unit_label": None,
        "updated": context.now,
        "url": None,
    }
    _assign(product, params)
    return context.insert(product, "product.created")


def _assign(product: dict[str, Any], params: Params) -> None:
    copy_params(product, params, *COPIED_FIELDS, "default_price")
    if "metadata" in params:
        product["metadata"] = merge_metadata(product["metadata"], params["metadata"])
