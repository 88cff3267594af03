"""All deeds by method and path, and how they are done."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.lightning import price_deeds, relay_deeds, wallet_deeds
from sandbox.lightning.deed import Answer, Command, Refused
from sandbox.lightning.fields import BadField, Fields
from sandbox.stripe.chance import BadFault
from sandbox.wallets import NotPaid
from sandbox.wallets.link import RelayRefused

if TYPE_CHECKING:
    from sandbox.lightning.sandbox import Lightning


class MatchedCommand(NamedTuple):
    """A command, and what it is args."""

    command: Command
    args: tuple[str, ...]


def clear_all_faults(lightning: "Lightning", fields: Fields) -> Answer:
    relay_deeds.clear_relay_faults(lightning, fields)
    return price_deeds.clear_price_faults(lightning, fields)


COMMANDS: Mapping[tuple[str, str], Command] = {
    **wallet_deeds.COMMANDS,
    **price_deeds.COMMANDS,
    **relay_deeds.COMMANDS,
    ("DELETE", "faults"): Command(clear_all_faults, (), "No faults are in force."),
}
#: What the page says after a command, by the command's name.
MESSAGES = {command.name: command.body for command in COMMANDS.values()}


def match_command(method: str, path: str) -> MatchedCommand | None:
    """Return what a request to a path does, or None."""
    for (wanted, pattern), command in COMMANDS.items():
        match = re.fullmatch(pattern, path)
        if match and method == wanted:
            return MatchedCommand(command, match.groups())
    return None


def execute(
    lightning: "Lightning", found: MatchedCommand, body: Mapping[str, Any]
) -> Answer:
    """Do it; return what came of it. Raises Refused."""
    try:
        with lightning.lock:
            fields = Fields(body, match.command.fields)
            return match.command.run(lightning, fields, *found.args)
    except (BadField, BadFault) as exc:
        raise Refused(400, str(exc)) from exc
    except NotPaid as exc:
        raise Refused(402, f"not paid, {exc.code}: {exc}") from exc
    except (OSError, RelayRefused) as exc:
        raise Refused(504, "the relay does not do its part") from exc
