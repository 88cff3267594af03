"""Commands of the control API; see `sandbox.common.control`."""

from typing import Any

from sandbox.common.control import Command, Commands, Refused, fault_commands
from sandbox.common.fields import BadField, Fields
from sandbox.common.nostr import InvalidPubkey, parse_pubkey
from sandbox.zooid.configs import Config
from sandbox.zooid.faults import ZooidFault
from sandbox.zooid.zooid import Zooid


def list_relays(zooid: Zooid, fields: Fields) -> Any:
    """Return the relays by id, without secrets."""
    return {
        relay_id: {
            **_without_secrets(relay.config),
            "members": relay.members,
            "served": relay.is_served,
            "reloads": relay.reloads,
        }
        for relay_id, relay in zooid.state().items()
    }


def edit_relay(zooid: Zooid, fields: Fields, relay_id: str) -> Any:
    """Patch a configuration with an editor, without any check."""
    zooid.edit(relay_id, fields.mapping("config", {}))
    return list_relays(zooid, fields).get(relay_id)


def delete_relay(zooid: Zooid, fields: Fields, relay_id: str) -> Any:
    """Delete a configuration with an editor."""
    if relay_id not in zooid.relays:
        raise Refused(404, f"no relay {relay_id}")
    zooid.remove(relay_id)
    return list_relays(zooid, fields)


def set_members(zooid: Zooid, fields: Fields, relay_id: str) -> Any:
    """Set a relay's members."""
    members = fields.texts("members")
    try:
        zooid.set_members(relay_id, map(parse_pubkey, members))
    except InvalidPubkey as exc:
        raise BadField(f"members: {exc}") from exc
    return list_relays(zooid, fields)[relay_id]


def list_events(zooid: Zooid, fields: Fields, relay_id: str) -> Any:
    """Return a relay's events, newest first."""
    if relay_id not in zooid.relays:
        raise Refused(404, f"no relay {relay_id}")
    return {"data": [event.to_dict() for event in zooid.events(relay_id)]}


def get_settings(zooid: Zooid, fields: Fields) -> Any:
    """Return the settings."""
    return {name: getattr(zooid, name) for name in _SETTINGS}


def update_settings(zooid: Zooid, fields: Fields) -> Any:
    """Set the given settings."""
    zooid.latency = fields.seconds("latency", zooid.latency)
    zooid.reload_delay = fields.seconds("reload_delay", zooid.reload_delay)
    zooid.is_lenient = fields.flag("is_lenient", zooid.is_lenient)
    return get_settings(zooid, fields)


def reset(zooid: Zooid, fields: Fields) -> Any:
    """Delete relays, members, events and faults; reset the settings."""
    zooid.reset()
    return list_relays(zooid, fields)


def _without_secrets(config: Config) -> Config:
    return {name: config[name] for name in config if name not in ("secret", "livekit")}


_SETTINGS = ("latency", "reload_delay", "is_lenient")
COMMANDS: Commands = {
    ("GET", "relays"): Command(list_relays),
    ("POST", r"relays/([\w-]+)/members"): Command(set_members, ("members",)),
    ("POST", r"relays/([\w-]+)"): Command(edit_relay, ("config",)),
    ("DELETE", r"relays/([\w-]+)"): Command(delete_relay),
    ("GET", r"relays/([\w-]+)/events"): Command(list_events),
    ("GET", "settings"): Command(get_settings),
    ("POST", "settings"): Command(update_settings, _SETTINGS),
    **fault_commands("faults", ZooidFault, lambda zooid: zooid.faults),
    ("POST", "reset"): Command(reset),
}
