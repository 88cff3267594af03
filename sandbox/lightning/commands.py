"""All commands of the control API and the page's forms, and how they are run."""

from typing import Any

from sandbox.common.control import Command, Commands, Refused
from sandbox.common.fields import Fields
from sandbox.lightning import (
    price_commands,
    relay_commands,
    views,
    wallet_commands,
)
from sandbox.lightning.stack import Lightning
from sandbox.wallets import NotPaid
from sandbox.wallets.relay_connection import RelayRefused


def clear_all_faults(lightning: Lightning, fields: Fields) -> Any:
    """Clear the faults of the relay and of the price sources."""
    relay_commands.clear_relay_faults(lightning, fields)
    return price_commands.clear_price_faults(lightning, fields)


COMMANDS: Commands = {
    **wallet_commands.COMMANDS,
    **price_commands.COMMANDS,
    **relay_commands.COMMANDS,
    ("DELETE", "faults"): Command(clear_all_faults, message="All faults are cleared."),
}
VIEWS: Commands = {
    ("GET", "state"): Command(lambda lightning, _: views.serialize_state(lightning)),
    ("GET", "wallets"): Command(lambda lightning, _: views.list_wallets(lightning)),
    ("GET", r"wallets/([\w-]+)"): Command(
        lambda lightning, _, name: views.get_wallet(lightning, name)
    ),
    ("GET", "invoices"): Command(lambda lightning, _: views.list_invoices(lightning)),
    ("GET", "prices"): Command(lambda lightning, _: views.serialize_prices(lightning)),
    ("GET", "relay"): Command(lambda lightning, _: views.serialize_relay(lightning)),
}
#: The page's message after a command, by the command's name.
MESSAGES = {command.name: command.message for command in COMMANDS.values()}


def execute(command: Command, lightning: Lightning, fields: Fields) -> Any:
    """Run the command and return its result. Raises Refused or BadField."""
    try:
        with lightning.lock:
            return command.run(lightning, fields)
    except NotPaid as exc:
        raise Refused(402, f"not paid, {exc.code}: {exc}") from exc
    except (OSError, RelayRefused) as exc:
        raise Refused(504, "the relay does not respond") from exc
