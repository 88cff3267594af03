"""Relay configurations and members, stored in a JSON file."""

import json
from pathlib import Path
from typing import Any

from sandbox.common.state import UnreadableState
from sandbox.zooid.configs import Config


class Store:
    """Configurations and members by relay id; callers must hold a lock.

    Members outlive their relay's configuration, as in zooid's own database.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Load the file if it exists. Raises UnreadableState."""
        self._path = path
        data = _read(path) if path and path.exists() else {}
        self.configs: dict[str, Config] = data.get("configs", {})
        self.members: dict[str, list[str]] = data.get("members", {})

    def save(self) -> None:
        """Write everything to the file; a crash leaves the old or the new one."""
        if self._path is None:
            return
        draft = self._path.with_suffix(".draft")
        draft.touch(mode=0o600)  # it contains the relays' secret keys
        draft.write_text(json.dumps({"configs": self.configs, "members": self.members}))
        draft.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise UnreadableState(f"{path} cannot be read: {exc}") from exc
    if not isinstance(data, dict) or not {*data} <= {"configs", "members"}:
        raise UnreadableState(f"{path} was not written by the sandbox zooid.")
    return data
