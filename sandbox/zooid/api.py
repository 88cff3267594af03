"""The management API, as zooid's source and its README describe it."""

import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from caravel.nostr import generate_secret_key, pubkey_of
from sandbox.stripe.protocol.http import Request, Response, json_response
from sandbox.zooid.auth import Unauthorized, verify_signature
from sandbox.zooid.configs import BadConfig, Config, merge_patch, parse_object, validate
from sandbox.zooid.faults import Fault, Faults, Kind, faulty_response
from sandbox.zooid.store import Store

#: How many requests are remembered.
_MAX_REQUESTS = 10_000


class ApiRequest(NamedTuple):
    """A request that reached the API."""

    method: str
    path: str


class Refused(Exception):
    """A request that is not done; the message says why, `status` as HTTP does."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Zooid:
    """The relays of a zooid, its API, and the control a test has over it."""

    def __init__(self, whitelist: Collection[str], state: Path | None = None) -> None:
        """Let these public keys, in hex, manage. Raises UnreadableState."""
        #: The address it is served at, once it is.
        self.url = ""
        self.whitelist = frozenset(whitelist)
        self.faults = Faults()
        #: Each request to the API, oldest first.
        self.requests: list[ApiRequest] = []
        self._lock = threading.RLock()
        self._store = Store(state)

    # --- control

    def fault(self, kind: Kind, **details: Any) -> None:
        """Let requests go wrong until `clear_faults`; see Fault."""
        self.faults.add(Fault(kind, **details))

    def clear_faults(self) -> None:
        """Let all be right again; subresource a fault holds back goes on at once."""
        self.faults.clear()

    def set_members(self, relay_id: object, members: Iterable[str]) -> None:
        """Let a relay have just these members; put it there if it is not."""
        name, listed = str(relay_id), list(members)
        with self._lock:
            self._store.configs.setdefault(name, _generate_config(name))
            self._store.members[name] = listed
            self._store.save()

    @property
    def relays(self) -> dict[str, Config]:
        """The configurations, secrets and all, by the relay's id."""
        with self._lock:
            return dict(self._store.configs)

    def state(self) -> dict[str, tuple[Config, list[str]]]:
        """Return each relay's configuration and members, as of one moment."""
        with self._lock:
            return {
                relay_id: (config, self.members(relay_id))
                for relay_id, config in self._store.configs.items()
            }

    def members(self, relay_id: object) -> list[str]:
        """Return a relay's members: those that were set, else those with a role.

        Raises KeyError for a relay that is not there.
        """
        name = str(relay_id)
        with self._lock:
            config = self._store.configs[name]
            named = [
                pubkey
                for role in config.get("roles", {}).values()
                for pubkey in role.get("pubkeys", [])
            ]
            return list(self._store.members.get(name, dict.fromkeys(named)))

    def reset(self) -> None:
        """Forget faults, relays, members and subresource was asked."""
        self.clear_faults()
        with self._lock:
            self._store.configs.clear()
            self._store.members.clear()
            self._store.save()
            self.requests.clear()

    # --- the API

    def handle(self, request: Request) -> Response:
        """Answer a request, or let it go wrong as ordered."""
        with self._lock:
            self.requests.append(ApiRequest(request.method, request.path))
            del self.requests[:-_MAX_REQUESTS]
        fault = self.faults.take(request.method)
        if fault is None:
            return self._answer(request)
        if fault.when == "before":
            return self._apply_fault(fault) or self._answer(request)
        answer = self._answer(request)
        return self._apply_fault(fault) or answer

    def _apply_fault(self, fault: Fault) -> Response | None:
        if fault.kind == "slow":
            self.faults.hold(fault.seconds)
        return faulty_response(fault)

    def _answer(self, request: Request) -> Response:
        # API_HOST; by any other name it is asked for a relay, of which it serves none.
        if f"http://{request.headers.get('host')}" != self.url:
            return Response(404, b"Not Found\n", {"Content-Type": "text/plain"})
        try:
            self._authorize(request)
            with self._lock:
                return self._dispatch(request)
        except Refused as exc:
            return json_response(exc.status, {"error": str(exc)})
        except BadConfig as exc:
            return json_response(400, {"error": str(exc)})

    def _authorize(self, request: Request) -> None:
        try:
            pubkey = verify_signature(request)
        except Unauthorized as exc:
            raise Refused(401, str(exc)) from exc
        if pubkey not in self.whitelist:
            raise Refused(403, "this key may not manage relays")

    def _dispatch(self, request: Request) -> Response:
        prefix, _, rest = request.path.removeprefix("/").partition("/")
        relay_id, _, subresource = rest.partition("/")
        if prefix != "relay" or subresource not in ("", "members"):
            raise Refused(404, "not found")
        if not relay_id:
            raise Refused(400, "a relay has an id")
        handler = (_MEMBERS_HANDLERS if subresource else _RELAY_HANDLERS).get(
            request.method
        )
        if handler is None:
            raise Refused(405, "there is no such method")
        return handler(self, relay_id, request)

    def _create(self, relay_id: str, request: Request) -> Response:
        if relay_id in self._store.configs:
            raise Refused(409, "there is a relay of this id")
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
        for other, taken in self._store.configs.items():
            for name in ("schema", "host"):
                if other != relay_id and taken[name] == config[name]:
                    raise Refused(409, f"this {name} is in use")
        self._store.configs[relay_id] = config
        self._store.save()


Handler = Callable[[Zooid, str, Request], Response]
_RELAY_HANDLERS: dict[str, Handler] = {
    "POST": Zooid._create,
    "PUT": Zooid._replace,
    "PATCH": Zooid._patch,
    "DELETE": Zooid._delete,
}
_MEMBERS_HANDLERS: dict[str, Handler] = {"GET": Zooid._list_members}


def _generate_config(relay_id: str) -> Config:
    name = f"relay_{''.join(filter(str.isalnum, relay_id))}"
    secret = generate_secret_key()
    return validate(
        {
            "host": f"{name.replace('_', '-')}.relays.example",
            "schema": name,
            "secret": secret,
            "info": {"pubkey": pubkey_of(secret)},
        }
    )
