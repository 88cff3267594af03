"""All deeds by method and path, and how they are done."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.lightning import price_deeds, relay_deeds, wallet_deeds
from sandbox.lightning.deed import Answer, Deed, Refused
from sandbox.lightning.fields import BadField, Fields
from sandbox.stripe.chance import BadFault
from sandbox.wallets import NotPaid
from sandbox.wallets.link import RelayRefused

if TYPE_CHECKING:
    from sandbox.lightning.sandbox import Lightning


class Found(NamedTuple):
    """A deed, and what it is about."""

    deed: Deed
    about: tuple[str, ...]


def clear_all_faults(lightning: "Lightning", fields: Fields) -> Answer:
    relay_deeds.clear_relay_faults(lightning, fields)
    return price_deeds.clear_price_faults(lightning, fields)


DEEDS: Mapping[tuple[str, str], Deed] = {
    **wallet_deeds.DEEDS,
    **price_deeds.DEEDS,
    **relay_deeds.DEEDS,
    ("DELETE", "faults"): Deed(clear_all_faults, (), "No faults are in force."),
}
#: What the page says after a deed, by the deed's name.
SAID = {deed.name: deed.said for deed in DEEDS.values()}


def find(method: str, path: str) -> Found | None:
    """Return what a request to a path does, or None."""
    for (wanted, pattern), deed in DEEDS.items():
        match = re.fullmatch(pattern, path)
        if match and method == wanted:
            return Found(deed, match.groups())
    return None


def carry_out(lightning: "Lightning", found: Found, said: Mapping[str, Any]) -> Answer:
    """Do it; return what came of it. Raises Refused."""
    try:
        with lightning.lock:
            fields = Fields(said, found.deed.fields)
            return found.deed.act(lightning, fields, *found.about)
    except (BadField, BadFault) as exc:
        raise Refused(400, str(exc)) from exc
    except NotPaid as exc:
        raise Refused(402, f"not paid, {exc.code}: {exc}") from exc
    except (OSError, RelayRefused) as exc:
        raise Refused(504, "the relay does not do its part") from exc
