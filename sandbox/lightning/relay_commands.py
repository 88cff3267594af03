"""Commands for the relay."""

from typing import Any

from sandbox.common.control import Command, Commands
from sandbox.common.fields import Fields
from sandbox.lightning.stack import Lightning
from sandbox.lightning.views import serialize_relay
from sandbox.nostr.faults import RelayFault

SETTINGS = ("honours_expiration", "requires_auth")


def relay_offline(lightning: Lightning, fields: Fields) -> Any:
    """Break all connections and refuse new ones."""
    lightning.relay.go_offline()
    return serialize_relay(lightning)


def relay_online(lightning: Lightning, fields: Fields) -> Any:
    """Listen again."""
    lightning.relay.go_online()
    return serialize_relay(lightning)


def drop_connections(lightning: Lightning, fields: Fields) -> Any:
    """Break all connections; clients may reconnect."""
    lightning.relay.drop_connections()
    return serialize_relay(lightning)


def add_relay_fault(lightning: Lightning, fields: Fields) -> Any:
    """Add a fault for matching messages; the result has its `id`."""
    id = lightning.relay.add_fault(RelayFault.read(fields)).id
    return {**serialize_relay(lightning), "id": id}


def clear_relay_faults(lightning: Lightning, fields: Fields) -> Any:
    """Clear the relay's faults; what they delay or hold is sent at once."""
    lightning.relay.clear_faults()
    return serialize_relay(lightning)


def release(lightning: Lightning, fields: Fields) -> Any:
    """Send what faults hold back."""
    return {**serialize_relay(lightning), "released": lightning.relay.release()}


def set_relay(lightning: Lightning, fields: Fields) -> Any:
    """Change the relay's settings."""
    changes = {name: fields.flag(name) for name in SETTINGS if name in fields}
    lightning.relay.change_settings(**changes)
    return serialize_relay(lightning)


COMMANDS: Commands = {
    ("POST", "relay/offline"): Command(relay_offline, (), "The relay is offline."),
    ("POST", "relay/online"): Command(relay_online, (), "The relay is online."),
    ("POST", "relay/drop"): Command(
        drop_connections, (), "All connections are broken."
    ),
    ("POST", "relay/release"): Command(release, (), "The held messages are released."),
    ("POST", "relay/settings"): Command(set_relay, SETTINGS, "The relay is changed."),
    ("POST", "relay/faults"): Command(
        add_relay_fault,
        tuple(RelayFault.names()),
        "The relay fault is active.",
    ),
    ("DELETE", "relay/faults"): Command(
        clear_relay_faults, (), "The relay faults are cleared."
    ),
}
