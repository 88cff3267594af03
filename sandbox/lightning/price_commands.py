"""Commands for the price sources."""

import re
from decimal import Decimal
from typing import Any, get_args

from sandbox.common.control import Command, Commands
from sandbox.common.fields import BadField, Fields
from sandbox.lightning.stack import Lightning
from sandbox.lightning.views import serialize_prices
from sandbox.prices.feed import SOURCES, Kind

CURRENCY = re.compile(r"[a-z]{3}", re.ASCII)
#: Without the faults that need values no form can hold.
FAULTS: tuple[Kind, ...] = tuple(
    kind for kind in get_args(Kind) if kind not in ("body", "headers")
)


def set_price(lightning: Lightning, fields: Fields) -> Any:
    """Set the price of one bitcoin, at one source or at all."""
    currency = fields.text("currency", "usd").lower()
    if not CURRENCY.fullmatch(currency):
        raise BadField("currency must be a code of three letters")
    source = fields.optional(fields.choice, "source", SOURCES)
    lightning.prices.set_price(fields.positive("price"), currency, source=source)
    return serialize_prices(lightning)


def add_price_fault(lightning: Lightning, fields: Fields) -> Any:
    """Make some sources faulty, or all, until the faults are cleared."""
    sources = fields.texts("sources")
    if unknown := [source for source in sources if source not in SOURCES]:
        raise BadField(f"unknown source: {', '.join(unknown)}")
    lightning.prices.fault(
        fields.choice("kind", FAULTS),
        *sources,
        seconds=fields.seconds("seconds", 3_600),
        factor=fields.positive("factor", Decimal(2)),
    )
    return serialize_prices(lightning)


def clear_price_faults(lightning: Lightning, fields: Fields) -> Any:
    """Clear the faults of all sources."""
    lightning.prices.clear_faults()
    return serialize_prices(lightning)


def reset_prices(lightning: Lightning, fields: Fields) -> Any:
    """Restore the initial prices, without faults."""
    lightning.prices.reset()
    return serialize_prices(lightning)


COMMANDS: Commands = {
    ("POST", "prices"): Command(
        set_price, ("price", "currency", "source"), "The price is set."
    ),
    ("POST", "prices/faults"): Command(
        add_price_fault,
        ("kind", "sources", "seconds", "factor"),
        "The price fault is active.",
    ),
    ("DELETE", "prices/faults"): Command(
        clear_price_faults, (), "The price faults are cleared."
    ),
    ("POST", "prices/reset"): Command(reset_prices, (), "The prices are reset."),
}
