"""Configuration of a relay as zooid gets it.

zooid rebuilds a relay at every write, and whoever is connected no longer hears those
who come later. So only what differs from the acknowledged configuration is sent.

https://github.com/coracle-social/zooid: `Config` in zooid/config.go
"""

import json
import re
from typing import Any, TypeAlias

from django.conf import settings
from django.utils.crypto import salted_hmac

from relays.exceptions import RelayMisconfigured
from relays.models import Relay
from relays.services.provisioning import owner_words

#: JSON object with texts, switches, lists of texts, and further objects.
Configuration: TypeAlias = dict[str, Any]
#: Fields of `info` that the owner may also edit at the relay (NIP-86).
WORDS = ("name", "icon", "description")

_HOST = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9_-]+)*(:\d{1,5})?")
_SCHEMA = re.compile(r"[a-z][a-z0-9]*")
_KEY = re.compile(r"[0-9a-f]{64}")


def desired(relay: Relay) -> Configuration | None:
    """Return the configuration without the secret key; None for no relay.

    Raises RelayMisconfigured: some values would end zooid for all relays.
    """
    if relay.deleted_at:
        return None
    window = next(
        (each.window_host for each in relay.exports.all() if each.has_open_window), ""
    )
    is_off = relay.status != Relay.Status.ACTIVE
    config = {
        "host": window or public_host(relay),
        "schema": relay.schema,
        "inactive": is_off and not window,
        "info": {
            "name": relay.name,
            "icon": relay.icon,
            "pubkey": relay.tenant_id,
            "description": owner_words.public_description(relay),
        },
        **_features(relay),
        "roles": _roles(relay),
    }
    _validate(config, secret=relay.secret.reveal())
    return config


def public_host(relay: Relay) -> str:
    """Return the name under which everybody finds the relay."""
    # In lower case, as browsers send it: zooid compares the Host as it comes.
    return f"{relay.subdomain}.{settings.RELAY_DOMAIN}".lower()


def difference(wanted: Configuration, known: Configuration) -> Configuration:
    """Return the patch that makes `known` equal to `wanted`; empty if it is.

    As zooid merges patches (RFC 7396): null removes a key, lists are replaced.
    """
    patch: Configuration = dict.fromkeys(known.keys() - wanted.keys())
    for key, value in wanted.items():
        before = known.get(key)
        if isinstance(value, dict):
            inner = difference(value, before if isinstance(before, dict) else {})
            if inner or not isinstance(before, dict):
                patch[key] = inner
        elif key not in known or value != before:
            patch[key] = value
    return patch


def merge(config: Configuration, patch: Configuration) -> Configuration:
    """Return a configuration with a patch applied, as zooid does."""
    merged = {key: value for key, value in config.items() if key not in patch}
    for key, value in patch.items():
        if isinstance(value, dict):
            before = config.get(key)
            merged[key] = merge(before if isinstance(before, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def forget(config: Configuration, patch: Configuration) -> Configuration:
    """Return a configuration without the leaves of a patch: they are unknown."""
    known: Configuration = {}
    for key, value in config.items():
        if key not in patch:
            known[key] = value
        elif isinstance(value, dict) and isinstance(patch[key], dict):
            known[key] = forget(value, patch[key])
    return known


def dump(value: Any) -> str:
    """Return JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True)


def digest(config: Configuration | None) -> str:
    """Return a digest that cannot be guessed from outside; "" for no configuration."""
    if config is None:
        return ""
    return salted_hmac("relays.digest", dump(config), algorithm="sha256").hexdigest()


def _features(relay: Relay) -> Configuration:
    """Return the features that are switched on and in the plan."""
    plan = relay.plan
    is_live = relay.livekit_enabled and plan.livekit and settings.LIVEKIT_URL
    url, key, secret = (
        (settings.LIVEKIT_URL, settings.LIVEKIT_API_KEY, settings.LIVEKIT_API_SECRET)
        if is_live
        else ("", "", "")
    )
    return {
        "policy": {
            "public_join": relay.public_join,
            "strip_signatures": relay.strip_signatures,
        },
        "groups": {"enabled": relay.groups_enabled},
        "management": {"enabled": relay.management_enabled},
        "blossom": {"enabled": relay.blossom_enabled and plan.blossom},
        "push": {"enabled": relay.push_enabled},
        "livekit": {"server_url": url, "api_key": key, "api_secret": secret},
    }


def _roles(relay: Relay) -> Configuration:
    return {
        "admin": {
            "pubkeys": sorted(relay.admins),
            "can_manage": True,
            "can_invite": True,
        },
        "moderator": {
            "pubkeys": sorted(relay.moderators),
            "can_manage": False,
            "can_invite": True,
        },
        "member": {
            "pubkeys": [],
            "can_manage": False,
            "can_invite": relay.members_can_invite,
        },
    }


def _validate(config: Configuration, *, secret: str) -> None:
    keys = [config["info"]["pubkey"], secret]
    for role in config["roles"].values():
        keys += role["pubkeys"]
    for name, pattern, values in (
        ("host", _HOST, [config["host"]]),
        ("schema", _SCHEMA, [config["schema"]]),
        ("public or secret key", _KEY, keys),
    ):
        if not all(pattern.fullmatch(value) for value in values):
            raise RelayMisconfigured(f"Its {name} is not valid, so it was not sent.")
