"""Relays as zooid built them from their configurations, and how it rebuilds them."""

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from sandbox.common.nostr import is_pubkey, is_secret_key, pubkey_of
from sandbox.zooid.configs import Config
from sandbox.zooid.relays.nip11 import render_document

#: Who wrote a configuration: the management API, the relay's owner with NIP-86, or
#: somebody with an editor.
Writer = Literal["api", "nip86", "hand"]
#: SQL accepts these names of tables; zooid makes them lower case.
_TABLE = re.compile(r"[a-z_][a-z0-9_]*")


class Panic(Exception):
    """A configuration that ends zooid; the message says why."""


@dataclass(eq=False)
class Instance:
    """A relay as it was built; a later configuration builds another one."""

    relay_id: str
    config: Config
    #: Connections to it; see `sandbox.zooid.relays.session`.
    sessions: set[Any] = field(default_factory=set)

    @property
    def is_active(self) -> bool:
        return not self.config.get("inactive", False)

    @cached_property
    def pubkey(self) -> str:
        """The relay's own public key, in hex."""
        return pubkey_of(self.config["secret"])

    @cached_property
    def document(self) -> bytes:
        """Its NIP-11 document."""
        return render_document(self.config, self.pubkey)


class Instances:
    """All relays that run; callers must hold a lock, except for `find`.

    Each write of a configuration is followed by a reload, after `delay` seconds.
    """

    def __init__(
        self, configs: Mapping[str, Config], on_reload: Callable[[Instance], None]
    ) -> None:
        self.delay = 0.0
        self._configs = configs
        self._on_reload = on_reload
        self._by_id: dict[str, Instance] = {}
        self._by_host: dict[str, Instance] = {}
        # Relays whose configuration was written, with the time of their reload.
        self._written: deque[tuple[float, str]] = deque()
        self._reloads: Counter[tuple[str, Writer]] = Counter()

    def stop(self) -> None:
        """End all relays, as at an end of zooid."""
        self._by_id.clear()
        self._by_host.clear()
        self._written.clear()

    def start(self) -> None:
        """Build all relays, as at a start of zooid. Raises Panic."""
        self.stop()
        for relay_id in list(self._configs):
            self._build(relay_id)

    def write(self, relay_id: str, writer: Writer) -> None:
        """Plan the reload that follows a write or a deletion."""
        self._reloads[relay_id, writer] += 1
        self._written.append((time.monotonic() + self.delay, relay_id))

    def reload_due(self) -> None:
        """Rebuild the relays whose time has come. Raises Panic."""
        while self._written and self._written[0][0] <= time.monotonic():
            self._reload(self._written.popleft()[1])

    def reload_all(self) -> None:
        """Rebuild all written relays now. Raises Panic."""
        while self._written:
            self._reload(self._written.popleft()[1])

    @property
    def is_due(self) -> bool:
        """True if a written relay waits for its reload and its time has come."""
        # A copy: another thread may take the only one away.
        oldest = next(iter(list(self._written)), None)
        return oldest is not None and oldest[0] <= time.monotonic()

    def find(self, host: str) -> Instance | None:
        """Return the active relay at exactly this host, with the port, or None."""
        instance = self._by_host.get(host)
        return instance if instance and instance.is_active else None

    def get(self, relay_id: str) -> Instance | None:
        """Return a relay, active or not; None if none was built."""
        return self._by_id.get(relay_id)

    def reloads(self, relay_id: str, writer: Writer | None = None) -> int:
        """Return how many writes followed each other by a reload, of one writer or all.

        The first build counts, and so does a deletion.
        """
        return sum(
            count
            for (name, by), count in self._reloads.items()
            if name == relay_id and writer in (None, by)
        )

    def clear(self) -> None:
        """Forget all relays and their reloads."""
        self.stop()
        self._reloads.clear()

    def _reload(self, relay_id: str) -> None:
        previous = self._by_id.pop(relay_id, None)
        if previous is not None:
            # As in zooid: whoever has the host by now loses it.
            self._by_host.pop(previous.config["host"], None)
        if relay_id in self._configs:
            self._build(relay_id)

    def _build(self, relay_id: str) -> None:
        config = self._configs[relay_id]
        if not _is_loadable(config):
            return
        _check(relay_id, config)
        instance = Instance(relay_id, config)
        self._by_id[relay_id] = self._by_host[config["host"]] = instance
        self._on_reload(instance)


def _is_loadable(config: Config) -> bool:
    """Return whether zooid builds a relay; it only logs that it cannot."""
    is_named = bool(config.get("host") and config.get("schema"))
    return is_named and is_secret_key(config.get("secret", ""))


def _check(relay_id: str, config: Config) -> None:
    """Raise Panic for a configuration that ends zooid as a whole."""
    if not is_pubkey(config.get("info", {}).get("pubkey", "")):
        raise Panic(f"relay {relay_id}: info.pubkey is not a public key")
    if not _TABLE.fullmatch(config["schema"].lower()):
        raise Panic(f"relay {relay_id}: the schema is not a name in SQL")
