"""All commands by method and path, and how they are run."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.common.fields import BadField, Fields
from sandbox.common.probability import BadFault
from sandbox.lightning import price_commands, relay_commands, wallet_commands
from sandbox.lightning.commands_base import Answer, Command, Refused
from sandbox.wallets import NotPaid
from sandbox.wallets.relay_connection import RelayRefused

if TYPE_CHECKING:
    from sandbox.lightning.stack import Lightning


class MatchedCommand(NamedTuple):
    """A command, and its arguments from the path."""

    command: Command
    args: tuple[str, ...]


def clear_all_faults(lightning: "Lightning", fields: Fields) -> Answer:
    relay_commands.clear_relay_faults(lightning, fields)
    return price_commands.clear_price_faults(lightning, fields)


COMMANDS: Mapping[tuple[str, str], Command] = {
    **wallet_commands.COMMANDS,
    **price_commands.COMMANDS,
    **relay_commands.COMMANDS,
    ("DELETE", "faults"): Command(clear_all_faults, (), "All faults are cleared."),
}
#: The page's message after a command, by the command's name.
MESSAGES = {command.name: command.message for command in COMMANDS.values()}


def match_command(method: str, path: str) -> MatchedCommand | None:
    """Return the command for a method and a path, or None."""
    for (command_method, pattern), command in COMMANDS.items():
        match = re.fullmatch(pattern, path)
        if match and method == command_method:
            return MatchedCommand(command, match.groups())
    return None


def execute(
    lightning: "Lightning", matched: MatchedCommand, body: Mapping[str, Any]
) -> Answer:
    """Run the command and return its result. Raises Refused."""
    try:
        with lightning.lock:
            fields = Fields(body, matched.command.fields)
            return matched.command.run(lightning, fields, *matched.args)
    except (BadField, BadFault) as exc:
        raise Refused(400, str(exc)) from exc
    except NotPaid as exc:
        raise Refused(402, f"not paid, {exc.code}: {exc}") from exc
    except (OSError, RelayRefused) as exc:
        raise Refused(504, "the relay does not respond") from exc
