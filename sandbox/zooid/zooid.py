"""The sandbox zooid: its relays, and the methods with which tests control it."""

import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from sandbox.common.faults import Faults
from sandbox.common.nostr import Event, generate_secret_key, pubkey_of
from sandbox.zooid.api import Api, ApiRequest
from sandbox.zooid.configs import Config, merge_patch, validate
from sandbox.zooid.faults import Kind, Place, When, ZooidFault
from sandbox.zooid.relays.instances import Instance, Instances, Panic, Writer
from sandbox.zooid.store import Store


class Listener(Protocol):
    """The socket on which a zooid listens; its port stays the same."""

    url: str

    def open(self) -> None: ...

    def close(self) -> None: ...


class RelayState(NamedTuple):
    """A relay for page and control API."""

    config: Config
    members: list[str]
    is_served: bool
    reloads: int


class Zooid:
    """A zooid: its relays, and the methods with which tests control it."""

    def __init__(
        self,
        whitelist: Collection[str],
        state: Path | None = None,
        on_panic: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Accept requests of these public keys, in hex. Raises UnreadableState.

        `on_panic` is called with the reason when it has ended itself.
        """
        #: Seconds before each response, of API and relays.
        self.latency = 0.0
        #: Connections to relays break after so many messages to the client.
        self.max_messages: int | None = None
        #: The reason for which zooid ended itself.
        self.panic: str | None = None
        self.faults: Faults[ZooidFault] = Faults()
        self.listener: Listener | None = None
        self.lock = threading.RLock()
        self.store = Store(state)
        self.instances = Instances(self.store.configs, self._on_build)
        self.api = Api(whitelist, self.store, self.instances)
        self._on_panic = on_panic
        self._is_open = False
        self._stopping: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return self.listener.url if self.listener else ""

    def start(self) -> None:
        """Build all relays and accept connections, at the same port. Raises Panic."""
        if self._stopping:
            self._stopping.join()
        with self.lock:
            self.instances.start()
            self.panic = None
        if self.listener and not self._is_open:
            self.listener.open()
            self._is_open = True

    def stop(self) -> None:
        """End all connections and refuse new ones, as if the process was killed."""
        if self.listener and self._is_open:
            self._is_open = False
            self.listener.close()

    def fault(
        self,
        kind: Kind,
        *,
        place: Place = "api",
        when: When = "before",
        method: str | None = None,
        path: str | None = None,
        times: int | None = None,
        chance: float = 1.0,
        seconds: float = 3600.0,
        status: int | None = None,
        body: str = "",
    ) -> None:
        """Add a fault for matching requests, until `clear_faults`; see ZooidFault."""
        fault = ZooidFault(
            kind,
            place=place,
            when=when,
            method=method,
            path=path,
            times=times,
            chance=chance,
            seconds=seconds,
            status=status,
            body=body,
        )
        self.faults.add(fault)

    def clear_faults(self) -> None:
        """Clear all faults; delayed responses are sent at once."""
        self.faults.clear()

    @property
    def requests(self) -> list[ApiRequest]:
        """Requests to the API, oldest first."""
        return self.api.requests

    @property
    def is_lenient(self) -> bool:
        """True if any schema and an empty owner are accepted, as once by zooid."""
        return self.api.is_lenient

    @is_lenient.setter
    def is_lenient(self, value: bool) -> None:
        self.api.is_lenient = value

    @property
    def reload_delay(self) -> float:
        """Seconds from the write of a configuration to the reload of its relay."""
        return self.instances.delay

    @reload_delay.setter
    def reload_delay(self, seconds: float) -> None:
        self.instances.delay = seconds

    def reload(self) -> None:
        """Reload now the relays whose configuration was written."""
        self._reload(self.instances.reload_all)

    def reload_due(self) -> None:
        """Reload the relays whose delay is over."""
        self._reload(self.instances.reload_due)

    def reloads(self, relay_id: object, writer: Writer | None = None) -> int:
        """Return how many writes rebuilt a relay: those of one writer, or all.

        The first build counts, and so does a deletion.
        """
        with self.lock:
            return self.instances.reloads(str(relay_id), writer)

    def is_served(self, relay_id: object) -> bool:
        """Return whether a relay answers on its host."""
        self.reload_due()
        with self.lock:
            instance = self.instances.get(str(relay_id))
            return instance is not None and instance.is_active

    def find(self, host: str) -> Instance | None:
        """Return the active relay at exactly this host, with the port, or None."""
        if self.instances.is_due:
            self.reload_due()
        return self.instances.find(host)

    @property
    def relays(self) -> dict[str, Config]:
        """The configurations by relay id, including secrets."""
        with self.lock:
            return dict(self.store.configs)

    def state(self) -> dict[str, RelayState]:
        """Return a consistent copy of all relays by id."""
        with self.lock:
            return {
                name: RelayState(
                    config,
                    self.members(name),
                    self.is_served(name),
                    self.reloads(name),
                )
                for name, config in self.store.configs.items()
            }

    def edit(self, relay_id: object, patch: Config) -> None:
        """Patch a configuration with an editor: nothing is checked.

        A missing relay is created.
        """
        name = str(relay_id)
        with self.lock:
            self.write(name, merge_patch(self.store.configs.get(name, {}), patch))
        self.reload_due()

    def remove(self, relay_id: object) -> None:
        """Delete a configuration with an editor. Raises KeyError."""
        with self.lock:
            del self.store.configs[str(relay_id)]
            self.store.save()
            self.instances.write(str(relay_id), "hand")
        self.reload_due()

    def write(self, relay_id: str, config: Config, writer: Writer = "hand") -> None:
        """Write a configuration; callers must hold the lock."""
        self.store.configs[relay_id] = config
        self.store.save()
        self.instances.write(relay_id, writer)

    def own_pubkey(self, relay_id: object) -> str:
        """Return the public key of a relay itself, in hex. Raises KeyError."""
        return pubkey_of(self.relays[str(relay_id)]["secret"])

    def set_members(self, relay_id: object, members: Iterable[str]) -> None:
        """Set a relay's members; create the relay if it does not exist.

        The relay's own key, its owner and the keys with a role stay members.
        """
        name, pubkeys = str(relay_id), [*members]
        with self.lock:
            if name not in self.store.configs:
                self.write(name, _generate_config(name))
            config = self.store.configs[name]
            self.store.database.set_members(config, self.own_pubkey(name), pubkeys)
            self.store.save()
        self.reload_due()

    def members(self, relay_id: object) -> list[str]:
        """Return a relay's members, with its own key, its owner and those with a role.

        Raises KeyError for an unknown relay.
        """
        with self.lock:
            return self.store.database.members(self.store.configs[str(relay_id)])

    def add_event(self, relay_id: object, event: Event) -> None:
        """Store an event at a relay. Raises KeyError."""
        self.add_events(relay_id, [event])

    def add_events(self, relay_id: object, events: Iterable[Event]) -> None:
        """Store events at a relay; open subscriptions do not hear them.

        Raises KeyError for an unknown relay.
        """
        with self.lock:
            config = self.store.configs[str(relay_id)]
            self.store.database.add_events(config, events)

    def events(self, relay_id: object) -> list[Event]:
        """Return the events of a relay, newest first. Raises KeyError."""
        with self.lock:
            config = self.store.configs[str(relay_id)]
            records = self.store.database.events(config).records()
        return [record.event for record in records]

    def reset(self) -> None:
        """Delete relays, members, events, faults and recorded requests.

        The settings are reset, and a stopped zooid starts.
        """
        self.clear_faults()
        with self.lock:
            self.store.clear()
            self.instances.clear()
            self.requests.clear()
            self.latency = self.reload_delay = 0.0
            self.max_messages = None
            self.is_lenient = False
        self.start()

    def _on_build(self, instance: Instance) -> None:
        self.store.database.admit(instance.config, instance.pubkey)

    def _reload(self, reload: Callable[[], None]) -> None:
        with self.lock:
            try:
                reload()
            except Panic as panic:
                self.panic = reason = str(panic)
                self.instances.stop()
                # Not here: this may be the thread of the server, which ends with it.
                self._stopping = threading.Thread(target=self._end, args=(reason,))
                self._stopping.start()

    def _end(self, reason: str) -> None:
        self.stop()
        self._on_panic(reason)


def _generate_config(relay_id: str) -> Config:
    name = f"relay_{''.join(filter(str.isalnum, relay_id))}"
    secret, host = generate_secret_key(), f"{name.replace('_', '-')}.relays.example"
    info = {"pubkey": pubkey_of(secret)}
    return validate({"host": host, "schema": name, "secret": secret, "info": info})
