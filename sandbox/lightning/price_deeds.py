"""What can be done to the exchanges."""

import re
from decimal import Decimal
from typing import TYPE_CHECKING, get_args

from sandbox.lightning.deed import Answer, Command
from sandbox.lightning.fields import BadField, Fields
from sandbox.lightning.views import serialize_prices
from sandbox.prices.feed import SOURCES, Kind

if TYPE_CHECKING:
    from sandbox.lightning.sandbox import Lightning

CURRENCY = re.compile(r"[a-z]{3}", re.ASCII)
#: Without those that take more than a form can say.
FAULTS: tuple[Kind, ...] = tuple(
    kind for kind in get_args(Kind) if kind not in ("body", "headers")
)


def set_price(lightning: "Lightning", fields: Fields) -> Answer:
    """Let one bitcoin cost so much, at one source or at all of them."""
    currency = fields.text("currency", "usd").lower()
    if not CURRENCY.fullmatch(currency):
        raise BadField("currency is a code of three letters")
    source = fields.choice("source", SOURCES) if "source" in fields else None
    lightning.prices.set_price(fields.positive("price"), currency, source=source)
    return serialize_prices(lightning)


def add_price_fault(lightning: "Lightning", fields: Fields) -> Answer:
    """Let sources, or all of them, go wrong until their faults are cleared."""
    sources = fields.texts("sources")
    if unknown := [source for source in sources if source not in SOURCES]:
        raise BadField(f"there is no source {', '.join(unknown)}")
    lightning.prices.fault(
        fields.choice("kind", FAULTS),
        *sources,
        seconds=fields.seconds("seconds", 3_600),
        factor=fields.positive("factor", Decimal(2)),
    )
    return serialize_prices(lightning)


def clear_price_faults(lightning: "Lightning", fields: Fields) -> Answer:
    """Let all sources be right again."""
    lightning.prices.clear_faults()
    return serialize_prices(lightning)


def reset_prices(lightning: "Lightning", fields: Fields) -> Answer:
    """Return to the prices of the start, without faults."""
    lightning.prices.reset()
    return serialize_prices(lightning)


COMMANDS = {
    ("POST", "prices"): Command(
        set_price, ("price", "currency", "source"), "The price is set."
    ),
    ("POST", "prices/faults"): Command(
        add_price_fault,
        ("kind", "sources", "seconds", "factor"),
        "Prices go wrong from now on.",
    ),
    ("DELETE", "prices/faults"): Command(
        clear_price_faults, (), "Prices are right again."
    ),
    ("POST", "prices/reset"): Command(reset_prices, (), "Prices are as at the start."),
}
