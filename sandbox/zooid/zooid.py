"""The sandbox zooid: its relays, and the methods with which tests control it."""

import threading
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

from sandbox.common.faults import Faults
from sandbox.common.http import Request, Response, Steps, in_thread
from sandbox.common.nostr import generate_secret_key, pubkey_of
from sandbox.zooid import nip11
from sandbox.zooid.api import Api, ApiRequest
from sandbox.zooid.configs import Config, validate
from sandbox.zooid.faults import Kind, Place, When, ZooidFault
from sandbox.zooid.instances import Instance, Instances, Writer
from sandbox.zooid.store import Store

NOT_FOUND = Response(404, b"Not Found\n", {"Content-Type": "text/plain"})


class Zooid:
    """A zooid: its relays, and the methods with which tests control it."""

    def __init__(self, whitelist: Collection[str], state: Path | None = None) -> None:
        """Accept requests of these public keys, in hex. Raises UnreadableState."""
        #: The base URL, once it is served.
        self.url = ""
        #: Seconds before each response, of API and relays.
        self.latency = 0.0
        self.faults: Faults[ZooidFault] = Faults()
        self._lock = threading.RLock()
        self._store = Store(state)
        self._instances = Instances(self._store.configs, self._on_reload)
        self._api = Api(whitelist, self._store, self._instances)
        self._instances.start()

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
        return self._api.requests

    @property
    def reload_delay(self) -> float:
        """Seconds from the write of a configuration to the reload of its relay."""
        return self._instances.delay

    @reload_delay.setter
    def reload_delay(self, seconds: float) -> None:
        self._instances.delay = seconds

    def reload(self) -> None:
        """Reload now the relays whose configuration was written."""
        with self._lock:
            self._instances.reload_all()

    def reloads(self, relay_id: object, writer: Writer | None = None) -> int:
        """Return how many writes rebuilt a relay: those of one writer, or all.

        The first build counts, and so does a deletion.
        """
        with self._lock:
            return self._instances.reloads(str(relay_id), writer)

    def is_served(self, relay_id: object) -> bool:
        """Return whether a relay answers on its host."""
        with self._lock:
            self._instances.reload_due()
            instance = self._instances.get(str(relay_id))
            return instance is not None and instance.is_active

    def set_members(self, relay_id: object, members: Iterable[str]) -> None:
        """Set a relay's members; create the relay if it does not exist.

        The relay's own key, its owner and the keys with a role stay members.
        """
        name, pubkeys = str(relay_id), list(members)
        with self._lock:
            if name not in self._store.configs:
                self._store.configs[name] = _generate_config(name)
                self._instances.write(name, "hand")
            self._store.set_members(name, pubkeys)
            self._store.save()

    @property
    def relays(self) -> dict[str, Config]:
        """The configurations by relay id, including secrets."""
        with self._lock:
            return dict(self._store.configs)

    def state(self) -> dict[str, tuple[Config, list[str]]]:
        """Return a consistent copy of all relays' configurations and members."""
        with self._lock:
            return {
                relay_id: (config, self.members(relay_id))
                for relay_id, config in self._store.configs.items()
            }

    def own_pubkey(self, relay_id: object) -> str:
        """Return the public key of a relay itself, in hex. Raises KeyError."""
        return pubkey_of(self.relays[str(relay_id)]["secret"])

    def members(self, relay_id: object) -> list[str]:
        """Return a relay's members, with its own key, its owner and those with a role.

        Raises KeyError for an unknown relay.
        """
        with self._lock:
            return self._store.members(str(relay_id))

    def reset(self) -> None:
        """Delete relays, members, faults and recorded requests; reset the settings."""
        self.clear_faults()
        with self._lock:
            self._store.clear()
            self._instances.clear()
            self.requests.clear()
            self.latency = self.reload_delay = 0.0

    def find(self, host: str) -> Instance | None:
        """Return the active relay at exactly this host, with the port, or None."""
        if self._instances.is_due:
            with self._lock:
                self._instances.reload_due()
        return self._instances.find(host)

    def respond(self, request: Request) -> Steps:
        """Respond to a request to the API or to a relay, with the fault for it."""
        if self.latency:
            yield self.latency
        is_api = f"http://{request.headers.get('host')}" == self.url
        if is_api:
            self._api.record(request)
        place: Place = "api" if is_api else "relays"
        fault = self.faults.take(lambda fault: fault.matches(place, request))
        answer = partial(self._answer, request, is_api=is_api)
        if fault is None:
            return answer()
        return (yield from in_thread(fault.respond, answer))

    def _answer(self, request: Request, *, is_api: bool) -> Response:
        if is_api:
            with self._lock:
                return self._api.handle(request)
        instance = self.find(request.headers.get("host", ""))
        if instance is not None and nip11.is_asked(request):
            return nip11.respond(instance.document)
        return NOT_FOUND

    def _on_reload(self, instance: Instance) -> None:
        self._store.admit(instance.relay_id, instance.pubkey)


def _generate_config(relay_id: str) -> Config:
    name = f"relay_{''.join(filter(str.isalnum, relay_id))}"
    secret, host = generate_secret_key(), f"{name.replace('_', '-')}.relays.example"
    info = {"pubkey": pubkey_of(secret)}
    return validate({"host": host, "schema": name, "secret": secret, "info": info})
