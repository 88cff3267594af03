"""Relay configurations and members, stored in a JSON file."""

import json
from itertools import chain
from pathlib import Path
from typing import Any

from sandbox.common.nostr import pubkey_of
from sandbox.common.state import UnreadableState
from sandbox.zooid.configs import Config


class Store:
    """Configurations by relay id, members by schema; callers must hold a lock.

    Members are in the relay's database, which outlives its configuration.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Load the file if it exists. Raises UnreadableState."""
        self._path = path
        data = _read(path) if path and path.exists() else {}
        self.configs: dict[str, Config] = data.get("configs", {})
        self._members: dict[str, list[str]] = data.get("members", {})

    def members(self, relay_id: str) -> list[str]:
        """Return a relay's members. Raises KeyError."""
        return list(self._members.get(_tables(self.configs[relay_id]), []))

    def set_members(self, relay_id: str, pubkeys: list[str]) -> None:
        """Replace a relay's members, but keep those of its configuration."""
        self._members[_tables(self.configs[relay_id])] = pubkeys
        self.admit(relay_id, pubkey_of(self.configs[relay_id]["secret"]))

    def admit(self, relay_id: str, pubkey: str) -> None:
        """Make the relay's key, its owner and all keys with a role members.

        zooid does so at each build, and never removes those that lost their role.
        """
        config = self.configs[relay_id]
        roles = config.get("roles", {}).values()
        keys = chain.from_iterable(role.get("pubkeys", []) for role in roles)
        members = self._members.setdefault(_tables(config), [])
        added = dict.fromkeys([pubkey, config["info"]["pubkey"], *keys])
        members.extend(key for key in added if key not in members)

    def clear(self) -> None:
        """Delete everything."""
        self.configs.clear()
        self._members.clear()
        self.save()

    def save(self) -> None:
        """Write everything to the file; a crash leaves the old or the new one."""
        if self._path is None:
            return
        draft = self._path.with_suffix(".draft")
        draft.touch(mode=0o600)  # it contains the relays' secret keys
        data = {"configs": self.configs, "members": self._members}
        draft.write_text(json.dumps(data))
        draft.replace(self._path)


def _tables(config: Config) -> str:
    """Return the name of a relay's tables: SQL knows no upper case."""
    return str(config["schema"]).lower()


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise UnreadableState(f"{path} cannot be read: {exc}") from exc
    if not isinstance(data, dict) or not {*data} <= {"configs", "members"}:
        raise UnreadableState(f"{path} was not written by the sandbox zooid.")
    return data
