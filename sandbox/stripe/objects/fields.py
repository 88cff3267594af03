"""Parameters and values that several objects share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.stripe.api.errors import invalid, rejected
from sandbox.stripe.api.params import METADATA_KEYS, Choice
from sandbox.stripe.money import currencies


@dataclass(frozen=True, slots=True)
class Currency:
    """Parameter for a supported currency; read as lower case."""

    def read(self, value: Any, name: str) -> str:
        code = str(value).lower()
        if code not in currencies.SUPPORTED:
            known = ", ".join(sorted(currencies.SUPPORTED))
            raise rejected(
                f"Invalid currency: {value}. Stripe currently supports these "
                f"currencies: {known}",
                param=name,
            )
        return code


CURRENCY = Currency()
COLLECTION_METHOD = Choice(("charge_automatically", "send_invoice"))


def merge_metadata(
    current: Mapping[str, str], changes: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the metadata after an update (docs: API reference, Metadata).

    An empty value unsets its key; None (sent as "") unsets all. Raises a 400.
    """
    if changes is None:
        return {}
    merged = {**current, **changes}
    metadata = {key: value for key, value in merged.items() if value != ""}
    if len(metadata) > METADATA_KEYS:
        raise rejected(
            f"You can specify up to {METADATA_KEYS} metadata keys.", param="metadata"
        )
    return metadata


def new_metadata(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a new object."""
    return merge_metadata({}, params.get("metadata", {}))


def copy_params(target: dict[str, Any], params: Mapping[str, Any], *names: str) -> None:
    """Copy the named parameters that were sent to `target`; merge metadata."""
    for name in names:
        if name == "metadata" and name in params:
            target[name] = merge_metadata(target[name], params[name])
        elif name in params:
            target[name] = params[name]


def check_amount(amount: int, currency: str, param: str) -> None:
    """Raise a 400 unless the amount is a multiple of the currency's increment.

    Source: docs page "Supported currencies", special cases. The error text is assumed.
    """
    charge_increment = currencies.charge_increment(currency)
    if amount % charge_increment:
        raise invalid(
            f"Invalid amount: amounts in {currency.upper()} must be a multiple of "
            f"{charge_increment}.",
            param=param,
        )


def quantity_text(quantity: int, name: str) -> str:
    """Return a quantity as in Stripe's descriptions: "2 × Basic"."""
    return f"{quantity} × {name}"


def nulls(names: str) -> dict[str, None]:
    """Return fields that are null in a new object, most of them in every object."""
    return dict.fromkeys(names.split())


def zeros(names: str) -> dict[str, int]:
    """Return fields that are 0 in a new object."""
    return dict.fromkeys(names.split(), 0)


def empty_lists(names: str) -> dict[str, list[Any]]:
    """Return fields that the sandbox does not model: an empty list in every object."""
    return {name: [] for name in names.split()}
