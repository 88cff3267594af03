"""The account of the key (docs: API reference, Accounts).

It does not say whether the key is a live one: its prefix does, and `livemode` of the
account's objects.
"""

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.params import Shape
from sandbox.stripe.api.routing import Params, Resource
from sandbox.stripe.objects.fields import nulls
from sandbox.stripe.store.records import Record

resource = Resource("account")


@resource.get("/v1/account", Shape())
def retrieve_current(context: Context, params: Params) -> Record:
    """Return the account that the key belongs to."""
    return {
        "id": context.account,
        "object": "account",
        **nulls("business_profile business_type email"),
        "charges_enabled": True,
        "country": "US",
        "default_currency": "usd",
        "details_submitted": True,
        "payouts_enabled": True,
        "type": "standard",
    }
