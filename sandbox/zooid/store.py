"""The relays that zooid was given, and who is a member of them; kept in a file."""

import json
from pathlib import Path
from typing import Any

from sandbox.zooid.configs import Config


class UnreadableState(Exception):
    """The file is not one of ours; the message names it."""


class Store:
    """Configurations and members by the relay's id; whoever uses it holds a lock.

    Members outlive their relay's configuration, as in zooid's own database.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Take up what a file has. Raises UnreadableState."""
        self._path = path
        kept = _read(path) if path and path.exists() else {}
        self.configs: dict[str, Config] = kept.get("configs", {})
        self.members: dict[str, list[str]] = kept.get("members", {})

    def save(self) -> None:
        """Write everything down; a crash leaves the old file or the new one."""
        if self._path is None:
            return
        draft = self._path.with_suffix(".draft")
        draft.touch(mode=0o600)  # the relays' secret keys are in it
        draft.write_text(json.dumps({"configs": self.configs, "members": self.members}))
        draft.replace(self._path)


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise UnreadableState(f"{path} cannot be read: {exc}") from exc
    if not isinstance(kept, dict) or not {*kept} <= {"configs", "members"}:
        raise UnreadableState(f"{path} is not a file of the sandbox zooid's.")
    return kept
