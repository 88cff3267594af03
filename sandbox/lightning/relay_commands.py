"""Commands for the relay."""

from decimal import Decimal
from typing import TYPE_CHECKING, get_args

from sandbox.common.fields import Fields
from sandbox.lightning.commands_base import Answer, Command
from sandbox.lightning.views import serialize_relay
from sandbox.nostr.faults import Kind, Place, When

if TYPE_CHECKING:
    from sandbox.lightning.stack import Lightning

FAULTS: tuple[Kind, ...] = get_args(Kind)
PLACES: tuple[Place, ...] = get_args(Place)
WHENS: tuple[When, ...] = get_args(When)
SETTINGS = ("honours_expiration", "requires_auth")


def relay_offline(lightning: "Lightning", fields: Fields) -> Answer:
    """Break all connections and refuse new ones."""
    lightning.relay.go_offline()
    return serialize_relay(lightning)


def relay_online(lightning: "Lightning", fields: Fields) -> Answer:
    """Listen again."""
    lightning.relay.go_online()
    return serialize_relay(lightning)


def drop_connections(lightning: "Lightning", fields: Fields) -> Answer:
    """Break all connections; clients may reconnect."""
    lightning.relay.drop_connections()
    return serialize_relay(lightning)


def add_relay_fault(lightning: "Lightning", fields: Fields) -> Answer:
    """Add a fault for matching messages; the result has its `id`."""
    id = lightning.relay.fault(
        fields.choice("kind", FAULTS),
        on=fields.choice("on", PLACES, "event"),
        when=fields.choice("when", WHENS, "before"),
        kinds=fields.integers("kinds") or None,
        author=fields.text("author") if "author" in fields else None,
        times=fields.integer("times", minimum=1) if "times" in fields else None,
        seconds=fields.seconds("seconds", 0),
        chance=float(fields.positive("chance", Decimal(1))),
    )
    return {**serialize_relay(lightning), "id": id}


def clear_relay_faults(lightning: "Lightning", fields: Fields) -> Answer:
    """Clear the relay's faults; what they delay or hold is sent at once."""
    lightning.relay.clear_faults()
    return serialize_relay(lightning)


def release(lightning: "Lightning", fields: Fields) -> Answer:
    """Send what faults hold back."""
    return {**serialize_relay(lightning), "released": lightning.relay.release()}


def set_relay(lightning: "Lightning", fields: Fields) -> Answer:
    """Change the relay's settings."""
    changes = {name: fields.flag(name) for name in SETTINGS if name in fields}
    lightning.relay.change_settings(**changes)
    return serialize_relay(lightning)


COMMANDS = {
    ("POST", "relay/offline"): Command(relay_offline, (), "The relay is offline."),
    ("POST", "relay/online"): Command(relay_online, (), "The relay is online."),
    ("POST", "relay/drop"): Command(
        drop_connections, (), "All connections are broken."
    ),
    ("POST", "relay/release"): Command(release, (), "The held messages are released."),
    ("POST", "relay/settings"): Command(set_relay, SETTINGS, "The relay is changed."),
    ("POST", "relay/faults"): Command(
        add_relay_fault,
        ("kind", "on", "when", "kinds", "author", "times", "seconds", "chance"),
        "The relay fault is active.",
    ),
    ("DELETE", "relay/faults"): Command(
        clear_relay_faults, (), "The relay faults are cleared."
    ),
}
