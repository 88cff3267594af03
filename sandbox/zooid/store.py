"""Relay configurations and members, stored in a JSON file."""

import json
from pathlib import Path
from typing import Any

from sandbox.common.state import UnreadableState
from sandbox.zooid.configs import Config
from sandbox.zooid.relays.database import Database


class Store:
    """Configurations by relay id, and the database; callers must hold a lock."""

    def __init__(self, path: Path | None = None) -> None:
        """Load the file if it exists. Raises UnreadableState."""
        self._path = path
        data = _read(path) if path and path.exists() else {}
        self.configs: dict[str, Config] = data.get("configs", {})
        log = path.with_suffix(".events.jsonl") if path else None
        self.database = Database(data.get("members", {}), log)

    def clear(self) -> None:
        """Delete everything."""
        self.configs.clear()
        self.database.clear()
        self.save()

    def save(self) -> None:
        """Write all but the events to the file; a crash leaves the old or the new."""
        if self._path is None:
            return
        draft = self._path.with_suffix(".draft")
        draft.touch(mode=0o600)  # it contains the relays' secret keys
        data = {"configs": self.configs, "members": self.database.members_by_table}
        draft.write_text(json.dumps(data))
        draft.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise UnreadableState(f"{path} cannot be read: {exc}") from exc
    if not isinstance(data, dict) or not {*data} <= {"configs", "members"}:
        raise UnreadableState(f"{path} was not written by the sandbox zooid.")
    return data
