"""The management API, after zooid's source and README."""

import threading
from collections.abc import Callable, Collection, Iterable
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from sandbox.common.control import Refused
from sandbox.common.faults import Faults
from sandbox.common.http import Request, Response, json_response
from sandbox.common.nostr import generate_secret_key, pubkey_of
from sandbox.zooid.auth import verify_signature
from sandbox.zooid.configs import BadConfig, Config, merge_patch, parse_object, validate
from sandbox.zooid.faults import Kind, When, ZooidFault
from sandbox.zooid.store import Store

#: Only the newest requests are recorded.
_MAX_REQUESTS = 10_000


class ApiRequest(NamedTuple):
    """A recorded request to the API."""

    method: str
    path: str


class Zooid:
    """A zooid: its management API, and the methods with which tests control it."""

    def __init__(self, whitelist: Collection[str], state: Path | None = None) -> None:
        """Accept requests of these public keys, in hex. Raises UnreadableState."""
        #: The base URL, once it is served.
        self.url = ""
        self.whitelist = frozenset(whitelist)
        self.faults: Faults[ZooidFault] = Faults()
        #: Requests to the API, oldest first.
        self.requests: list[ApiRequest] = []
        self._lock = threading.RLock()
        self._store = Store(state)

    def fault(
        self,
        kind: Kind,
        *,
        when: When = "before",
        method: str | None = None,
        times: int | None = None,
        chance: float = 1.0,
        seconds: float = 3600.0,
        status: int | None = None,
        body: str = "",
    ) -> None:
        """Add a fault for matching requests, until `clear_faults`; see ZooidFault."""
        fault = ZooidFault(
            kind,
            when=when,
            method=method,
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

    def set_members(self, relay_id: object, members: Iterable[str]) -> None:
        """Set a relay's members; create the relay if it does not exist."""
        name, pubkeys = str(relay_id), list(members)
        with self._lock:
            self._store.configs.setdefault(name, _generate_config(name))
            self._store.members[name] = pubkeys
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

    def members(self, relay_id: object) -> list[str]:
        """Return a relay's members: those that were set, else those with a role.

        Raises KeyError for an unknown relay.
        """
        name = str(relay_id)
        with self._lock:
            roles = self._store.configs[name].get("roles", {}).values()
            pubkeys = chain.from_iterable(role.get("pubkeys", []) for role in roles)
            return list(self._store.members.get(name, dict.fromkeys(pubkeys)))

    def reset(self) -> None:
        """Delete relays, members, faults and recorded requests."""
        self.clear_faults()
        with self._lock:
            self._store.configs.clear()
            self._store.members.clear()
            self._store.save()
            self.requests.clear()

    def handle(self, request: Request) -> Response:
        """Handle an API request, with the fault that matches it."""
        with self._lock:
            self.requests.append(ApiRequest(request.method, request.path))
            del self.requests[:-_MAX_REQUESTS]
        fault = self.faults.take(lambda fault: fault.method in (None, request.method))
        if fault is None:
            return self._answer(request)
        if fault.when == "before":
            return fault.apply() or self._answer(request)
        answer = self._answer(request)
        return fault.apply() or answer

    def _answer(self, request: Request) -> Response:
        # zooid serves its API on API_HOST only; any other host would be a relay.
        if f"http://{request.headers.get('host')}" != self.url:
            return Response(404, b"Not Found\n", {"Content-Type": "text/plain"})
        try:
            if verify_signature(request) not in self.whitelist:
                raise Refused(403, "this key may not manage relays")
            with self._lock:
                return self._dispatch(request)
        except Refused as exc:
            return json_response(exc.status, {"error": str(exc)})
        except BadConfig as exc:
            return json_response(400, {"error": str(exc)})

    def _dispatch(self, request: Request) -> Response:
        prefix, _, rest = request.path.removeprefix("/").partition("/")
        relay_id, _, subresource = rest.partition("/")
        if prefix != "relay" or subresource not in ("", "members"):
            raise Refused(404, "not found")
        if not relay_id:
            raise Refused(400, "the id of the relay is missing")
        handler = _HANDLERS.get((request.method, subresource))
        if handler is None:
            raise Refused(405, "method not allowed")
        return handler(self, relay_id, request)

    def _create(self, relay_id: str, request: Request) -> Response:
        if relay_id in self._store.configs:
            raise Refused(409, "a relay with this id exists")
        self._save_config(relay_id, parse_object(request.body))
        return json_response(201, {"message": "relay created"})

    def _replace(self, relay_id: str, request: Request) -> Response:
        self._get_config(relay_id)
        self._save_config(relay_id, parse_object(request.body))
        return json_response(200, {"message": "relay updated"})

    def _patch(self, relay_id: str, request: Request) -> Response:
        config = self._get_config(relay_id)
        self._save_config(relay_id, merge_patch(config, parse_object(request.body)))
        return json_response(200, {"message": "relay patched"})

    def _delete(self, relay_id: str, request: Request) -> Response:
        self._get_config(relay_id)
        del self._store.configs[relay_id]
        self._store.save()
        return json_response(200, {"message": "relay deleted"})

    def _list_members(self, relay_id: str, request: Request) -> Response:
        self._get_config(relay_id)
        return json_response(200, {"members": self.members(relay_id)})

    def _get_config(self, relay_id: str) -> Config:
        if relay_id not in self._store.configs:
            raise Refused(404, "relay not found")
        return self._store.configs[relay_id]

    def _save_config(self, relay_id: str, data: Config) -> None:
        config = validate(data)
        for other, other_config in self._store.configs.items():
            for name in ("schema", "host"):
                if other != relay_id and other_config[name] == config[name]:
                    raise Refused(409, f"this {name} is in use")
        self._store.configs[relay_id] = config
        self._store.save()


#: By method, and by the part of the relay that the path names.
_HANDLERS: dict[tuple[str, str], Callable[[Zooid, str, Request], Response]] = {
    ("POST", ""): Zooid._create,
    ("PUT", ""): Zooid._replace,
    ("PATCH", ""): Zooid._patch,
    ("DELETE", ""): Zooid._delete,
    ("GET", "members"): Zooid._list_members,
}


def _generate_config(relay_id: str) -> Config:
    name = f"relay_{''.join(filter(str.isalnum, relay_id))}"
    secret, host = generate_secret_key(), f"{name.replace('_', '-')}.relays.example"
    info = {"pubkey": pubkey_of(secret)}
    return validate({"host": host, "schema": name, "secret": secret, "info": info})
