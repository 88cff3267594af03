"""A relay's configuration: validation and patches, as in zooid."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sandbox.common.nostr import is_pubkey, is_secret_key

Config = dict[str, Any]
#: The fields that zooid reads; it ignores others.
_FIELDS: Mapping[str, Any] = {
    "host": str,
    "schema": str,
    "secret": str,
    "inactive": bool,
    "info": {"name": str, "icon": str, "pubkey": str, "description": str},
    "policy": {"public_join": bool, "strip_signatures": bool},
    "groups": {"enabled": bool},
    "push": {"enabled": bool},
    "management": {"enabled": bool},
    "blossom": {"enabled": bool},
    "livekit": {"server_url": str, "api_key": str, "api_secret": str},
}
_ROLE = {"pubkeys": list, "can_invite": bool, "can_manage": bool}
_SCHEMA = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class BadConfig(Exception):
    """An invalid configuration; the message contains no values."""


def parse_object(body: bytes) -> Config:
    """Return the JSON object in a body. Raises BadConfig."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise BadConfig("the body is not JSON") from exc
    if not isinstance(data, dict):
        raise BadConfig("a JSON object is expected")
    return data


def merge_patch(config: Config, patch: Config) -> Config:
    """Return a patched configuration: null removes a key, lists are replaced."""
    result = dict(config)
    for key, value in patch.items():
        existing = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(existing, dict):
            result[key] = merge_patch(existing, value)
        else:
            result[key] = value
    return result


def validate(data: Config, *, is_lenient: bool = False) -> Config:
    """Return the known fields of an object. Raises BadConfig.

    Lenient: any schema, and no owner, as zooid accepted them until commit 35fa254.
    """
    config = _select_fields(data, _FIELDS, "")
    roles = {} if data.get("roles") is None else data["roles"]
    if not isinstance(roles, dict):
        raise BadConfig("roles has the wrong type")
    config["roles"] = {
        name: _select_fields(role, _ROLE, f"roles.{name}.")
        for name, role in roles.items()
    }
    _check_required(config, is_lenient=is_lenient)
    return config


def _select_fields(data: Any, fields: Mapping[str, Any], place: str) -> Config:
    """Return the known fields that are not null. Raises BadConfig."""
    if not isinstance(data, dict):
        raise BadConfig(f"{place.rstrip('.')} has the wrong type")
    selected = {}
    for name, kind in fields.items():
        value = data.get(name)
        if value is None:
            continue
        if isinstance(kind, Mapping):
            value = _select_fields(value, kind, f"{place}{name}.")
        elif not _is_instance(kind, value):
            raise BadConfig(f"{place}{name} has the wrong type")
        selected[name] = value
    return selected


def _is_instance(kind: type, value: Any) -> bool:
    """Return whether a value has a type; lists must contain only texts."""
    if isinstance(value, list):
        return kind is list and all(isinstance(item, str) for item in value)
    return isinstance(value, kind)


def _check_required(config: Config, *, is_lenient: bool) -> None:
    for name in ("host", "schema", "secret"):
        if not config.get(name):
            raise BadConfig(f"{name} is required")
    if not (is_lenient or _SCHEMA.fullmatch(config["schema"])):
        raise BadConfig("schema must contain only letters, numbers, and underscores")
    if not is_secret_key(config["secret"]):
        raise BadConfig("invalid secret key")
    owner = config.get("info", {}).get("pubkey", "")
    if not owner and not is_lenient:
        raise BadConfig("info.pubkey is required")
    if owner and not is_pubkey(owner):
        raise BadConfig("invalid info.pubkey")
