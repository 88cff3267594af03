"""Products (docs: API reference, Products)."""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.params import Boolean, Metadata, Shape, Text
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.fields import copy_params, nulls
from sandbox.stripe.store.records import Record

URL = "/v1/products"
resource = Resource("product")
UNUSED = nulls(
    """
    default_price description package_dimensions shippable statement_descriptor
    tax_code tax_details unit_label url
    """
)
UPDATE = Shape({"active": Boolean(), "metadata": Metadata(), "name": Text()})
resource.retrievable(URL)
resource.listable(URL)


@resource.post(URL, Shape({"id": Text(), "name": Text()}, required=("name",)))
def create(context: Context, params: Params) -> Record:
    """Create a product, with the given id if any. Raises a 400."""
    if "id" in params and context.store.get("product", params["id"]):
        raise invalid(
            "Product already exists.", param="id", code="resource_already_exists"
        )
    product: dict[str, Any] = {
        **context.new("product", "prod", 14),
        "active": True,
        "images": [],
        "marketing_features": [],
        "metadata": {},
        "name": params["name"],
        "type": "service",
        "updated": context.now,
        **UNUSED,
    }
    copy_params(product, params, "id")
    return context.insert(product, "product.created")


@resource.post(f"{URL}/{{id}}", UPDATE)
def update(context: Context, params: Params, id: str) -> Record:
    """Archive or rename a product. Raises a 404."""
    with context.update("product", id, "product.updated") as product:
        copy_params(product, params, "active", "metadata", "name")
        product["updated"] = context.now
    return product
