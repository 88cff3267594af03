"""Commands of the control API; see `sandbox.common.control`."""

from typing import Any

from sandbox.common.control import Command, Commands, fault_commands
from sandbox.common.fields import BadField, Fields
from sandbox.common.nostr import InvalidPubkey, parse_pubkey
from sandbox.zooid.configs import Config
from sandbox.zooid.faults import ZooidFault
from sandbox.zooid.zooid import Zooid


def list_relays(zooid: Zooid, fields: Fields) -> Any:
    """Return the relays by id, without secrets."""
    return {
        relay_id: {**_without_secrets(config), "members": members}
        for relay_id, (config, members) in zooid.state().items()
    }


def set_members(zooid: Zooid, fields: Fields, relay_id: str) -> Any:
    """Set a relay's members."""
    members = fields.texts("members")
    try:
        zooid.set_members(relay_id, map(parse_pubkey, members))
    except InvalidPubkey as exc:
        raise BadField(f"members: {exc}") from exc
    return list_relays(zooid, fields)[relay_id]


def reset(zooid: Zooid, fields: Fields) -> Any:
    """Delete relays, members and faults."""
    zooid.reset()
    return list_relays(zooid, fields)


def _without_secrets(config: Config) -> Config:
    return {name: config[name] for name in config if name not in ("secret", "livekit")}


COMMANDS: Commands = {
    ("GET", "relays"): Command(list_relays),
    ("POST", r"relays/([\w-]+)/members"): Command(set_members, ("members",)),
    **fault_commands("faults", ZooidFault, lambda zooid: zooid.faults),
    ("POST", "reset"): Command(reset),
}
