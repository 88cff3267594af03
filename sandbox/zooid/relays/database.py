"""The database that all relays share: their members and events, by schema."""

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from sandbox.common.nostr import Event, is_pubkey, parse_event
from sandbox.nostr.store import EventStore, Record
from sandbox.zooid.configs import Config

# zooid keeps everything.
_MAX_EVENTS = 10**9


class Database:
    """Members and events; callers must hold a lock.

    They are in tables named after the schema, and outlive the relay's configuration.
    SQL has no upper case in names: schemas that differ only in it share their tables.
    """

    def __init__(self, members: dict[str, list[str]], log: Path | None) -> None:
        """Load the events of a log of them, and add to it."""
        self.members_by_table = members
        self._events: dict[str, EventStore] = {}
        self._log = log
        if log and log.exists():
            with log.open() as lines:
                for table, data in map(json.loads, lines):
                    self._put(table, parse_event(data))

    def members(self, config: Config) -> list[str]:
        """Return the members of the relay with this configuration."""
        return list(self.members_by_table.get(_table(config), []))

    def is_member(self, config: Config, pubkey: str) -> bool:
        """Return whether a public key is a member."""
        return pubkey in self.members_by_table.get(_table(config), [])

    def set_members(self, config: Config, pubkey: str, members: list[str]) -> None:
        """Replace the members, but keep those of the configuration."""
        self.members_by_table[_table(config)] = members
        self.admit(config, pubkey)

    def admit(self, config: Config, pubkey: str) -> None:
        """Make the relay's own key, its owner and all keys with a role members.

        zooid does so at each build, and never removes those that lost their role.
        """
        roles = config.get("roles", {}).values()
        keys = chain.from_iterable(role.get("pubkeys", []) for role in roles)
        members = self.members_by_table.setdefault(_table(config), [])
        admitted = dict.fromkeys([pubkey, config["info"]["pubkey"], *keys])
        members.extend(k for k in admitted if k not in members and is_pubkey(k))

    def events(self, config: Config) -> EventStore:
        """Return the events of the relay with this configuration."""
        return self._events.setdefault(_table(config), EventStore())

    def add_events(self, config: Config, events: Iterable[Event]) -> list[Record]:
        """Store events; return those that are new and not older than others."""
        table = _table(config)
        records = [self._put(table, event) for event in events]
        added = [record for record in records if record is not None]
        if self._log and added:
            name = json.dumps(table)
            with self._log.open("a") as file:
                file.writelines(f"[{name}, {record.json}]\n" for record in added)
        return added

    def clear(self) -> None:
        """Delete everything."""
        self.members_by_table.clear()
        self._events.clear()
        if self._log:
            self._log.unlink(missing_ok=True)

    def _put(self, table: str, event: Event) -> Record | None:
        record = Record(event)
        store = self._events.setdefault(table, EventStore())
        return None if store.put(record, max_events=_MAX_EVENTS) else record


def _table(config: Config) -> str:
    # One written by hand may have none: then it has no relay either.
    return str(config.get("schema", "")).lower()
