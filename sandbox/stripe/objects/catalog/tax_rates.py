"""Tax rates that are set by hand (docs: API reference, Tax Rates).

Fields that only Stripe Tax sets are null, as in the responses of its reference.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.errors import invalid
from sandbox.stripe.api.pagination import page
from sandbox.stripe.api.params import (
    Array,
    Boolean,
    Kind,
    Metadata,
    Percentage,
    Range,
    Shape,
    Text,
    listing,
)
from sandbox.stripe.api.routing import Params, Resource, public
from sandbox.stripe.objects.fields import copy_params, new_metadata, nulls
from sandbox.stripe.store.records import Record, Store

KIND = "tax_rate"
URL = "/v1/tax_rates"
resource = Resource(KIND)
FIELDS: dict[str, Kind] = {
    "active": Boolean(),
    "country": Text(max_length=2),
    "description": Text(),
    "display_name": Text(max_length=50),
    "jurisdiction": Text(max_length=50),
    "metadata": Metadata(),
}
CREATE = Shape(
    {**FIELDS, "inclusive": Boolean(), "percentage": Percentage()},
    required=("display_name", "inclusive", "percentage"),
)
#: Ids of tax rates as a parameter; "" unsets them.
TAX_RATES = Array(Text())
MAX_RATES = 5
resource.retrievable(URL)


@resource.post(URL, CREATE)
def create(context: Context, params: Params) -> Record:
    """Create a tax rate. Raises a 400."""
    rate: dict[str, Any] = {
        **context.new(KIND, "txr"),
        **nulls(
            "country description effective_percentage flat_amount jurisdiction "
            "jurisdiction_level rate_type state tax_type"
        ),
        "active": True,
        "metadata": new_metadata(params),
        "inclusive": params["inclusive"],
        "percentage": params["percentage"],
    }
    copy_params(rate, params, *FIELDS)
    return context.insert(rate, "tax_rate.created")


@resource.get(URL, listing(active=Boolean(), created=Range(), inclusive=Boolean()))
def list_(context: Context, params: Params) -> Record:
    """Return tax rates, newest first."""
    wanted = {name: params[name] for name in ("active", "inclusive") if name in params}
    return page(
        context.store,
        KIND,
        URL,
        params,
        where=lambda rate: all(rate[name] is value for name, value in wanted.items()),
    )


@resource.post(f"{URL}/{{id}}", Shape(FIELDS))
def update(context: Context, params: Params, id: str) -> Record:
    """Archive a tax rate, or change its texts; the rate cannot change."""
    with context.update(KIND, id, "tax_rate.updated") as rate:
        copy_params(rate, params, *FIELDS)
    return rate


def require_active(context: Context, ids: Sequence[str], param: str) -> list[str]:
    """Return the ids. Raises a 400 for a missing or archived rate, or too many.

    Limit: docs page "Tax rates and IDs" ("up to five tax rates to each line item").
    """
    for number, id in enumerate(ids):
        rate = context.get_referenced(KIND, id, f"{param}[{number}]")
        if not rate["active"]:
            raise invalid(
                f"The tax rate `{id}` is archived and can't be used.", param=param
            )
    if len(ids) > MAX_RATES or len(ids) > len(set(ids)):
        raise invalid(
            f"You can pass at most {MAX_RATES} tax rates, each once.", param=param
        )
    return list(ids)


def render_all(store: Store, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tax rates as they are embedded in other objects."""
    return [public(store, store.get(KIND, id) or {}) for id in ids]


def percentage(rate: Mapping[str, Any]) -> Fraction:
    """Return the exact percentage of a tax rate."""
    return Fraction(str(rate["percentage"]))
