"""Payment methods: none can be attached, so every list is empty."""

from sandbox.stripe.context import Context
from sandbox.stripe.protocol.lists import list_object
from sandbox.stripe.protocol.params import Text, listing
from sandbox.stripe.resource import Params, Resource
from sandbox.stripe.store import Record

URL = "/v1/payment_methods"
resource = Resource("payment_method")


@resource.get(URL, listing(customer=Text(), type=Text()))
def list_(context: Context, params: Params) -> Record:
    """Return no payment methods."""
    if "customer" in params:
        context.refer("customer", params["customer"], "customer")
    return list_object([], URL)


@resource.get("/v1/customers/{customer}/payment_methods", listing(type=Text()))
def list_of_customer(context: Context, params: Params, customer: str) -> Record:
    """Return no payment methods. Raises a 404 for an unknown customer."""
    context.get("customer", customer)
    return list_object([], f"/v1/customers/{customer}/payment_methods")
