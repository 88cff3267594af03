"""The management API, as zooid's source and its README describe it."""

import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from caravel.nostr import generate_secret_key, pubkey_of
from sandbox.stripe.protocol.http import Request, Response, json_response
from sandbox.zooid.auth import Unauthorized, caller
from sandbox.zooid.configs import BadConfig, Config, checked, merged, read
from sandbox.zooid.faults import Fault, Faults, Kind, instead
from sandbox.zooid.store import Store

#: How many requests are remembered.
_REMEMBERED = 10_000


class Asked(NamedTuple):
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
        self.requests: list[Asked] = []
        self._lock = threading.RLock()
        self._store = Store(state)

    # --- control

    def fault(self, kind: Kind, **details: Any) -> None:
        """Let requests go wrong until `clear_faults`; see Fault."""
        self.faults.add(Fault(kind, **details))

    def clear_faults(self) -> None:
        """Let all be right again; what a fault holds back goes on at once."""
        self.faults.clear()

    def set_members(self, relay_id: object, members: Iterable[str]) -> None:
        """Let a relay have just these members; put it there if it is not."""
        name, listed = str(relay_id), list(members)
        with self._lock:
            self._store.configs.setdefault(name, _made_up(name))
            self._store.members[name] = listed
            self._store.save()

    @property
    def relays(self) -> dict[str, Config]:
        """The configurations, secrets and all, by the relay's id."""
        with self._lock:
            return dict(self._store.configs)

    def census(self) -> dict[str, tuple[Config, list[str]]]:
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
        """Forget faults, relays, members and what was asked."""
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
            self.requests.append(Asked(request.method, request.path))
            del self.requests[:-_REMEMBERED]
        fault = self.faults.take(request.method)
        if fault is None:
            return self._answer(request)
        if fault.when == "before":
            return self._suffer(fault) or self._answer(request)
        answer = self._answer(request)
        return self._suffer(fault) or answer

    def _suffer(self, fault: Fault) -> Response | None:
        if fault.kind == "slow":
            self.faults.hold(fault.seconds)
        return instead(fault)

    def _answer(self, request: Request) -> Response:
        # API_HOST; by any other name it is asked for a relay, of which it serves none.
        if f"http://{request.headers.get('host')}" != self.url:
            return Response(404, b"Not Found\n", {"Content-Type": "text/plain"})
        try:
            self._require_known(request)
            with self._lock:
                return self._dispatch(request)
        except Refused as exc:
            return json_response(exc.status, {"error": str(exc)})
        except BadConfig as exc:
            return json_response(400, {"error": str(exc)})

    def _require_known(self, request: Request) -> None:
        try:
            pubkey = caller(request)
        except Unauthorized as exc:
            raise Refused(401, str(exc)) from exc
        if pubkey not in self.whitelist:
            raise Refused(403, "this key may not manage relays")

    def _dispatch(self, request: Request) -> Response:
        prefix, _, rest = request.path.removeprefix("/").partition("/")
        relay_id, _, what = rest.partition("/")
        if prefix != "relay" or what not in ("", "members"):
            raise Refused(404, "not found")
        if not relay_id:
            raise Refused(400, "a relay has an id")
        deed = (_MEMBERS if what else _DEEDS).get(request.method)
        if deed is None:
            raise Refused(405, "there is no such method")
        return deed(self, relay_id, request)

    def _create(self, relay_id: str, request: Request) -> Response:
        if relay_id in self._store.configs:
            raise Refused(409, "there is a relay of this id")
        self._write(relay_id, read(request.body))
        return json_response(201, {"message": "relay created"})

    def _replace(self, relay_id: str, request: Request) -> Response:
        self._present(relay_id)
        self._write(relay_id, read(request.body))
        return json_response(200, {"message": "relay updated"})

    def _patch(self, relay_id: str, request: Request) -> Response:
        present = self._present(relay_id)
        self._write(relay_id, merged(present, read(request.body)))
        return json_response(200, {"message": "relay patched"})

    def _delete(self, relay_id: str, request: Request) -> Response:
        self._present(relay_id)
        del self._store.configs[relay_id]
        self._store.save()
        return json_response(200, {"message": "relay deleted"})

    def _tell_members(self, relay_id: str, request: Request) -> Response:
        self._present(relay_id)
        return json_response(200, {"members": self.members(relay_id)})

    def _present(self, relay_id: str) -> Config:
        if relay_id not in self._store.configs:
            raise Refused(404, "relay not found")
        return self._store.configs[relay_id]

    def _write(self, relay_id: str, said: Config) -> None:
        config = checked(said)
        for other, taken in self._store.configs.items():
            for name in ("schema", "host"):
                if other != relay_id and taken[name] == config[name]:
                    raise Refused(409, f"this {name} is in use")
        self._store.configs[relay_id] = config
        self._store.save()


Deed = Callable[[Zooid, str, Request], Response]
_DEEDS: dict[str, Deed] = {
    "POST": Zooid._create,
    "PUT": Zooid._replace,
    "PATCH": Zooid._patch,
    "DELETE": Zooid._delete,
}
_MEMBERS: dict[str, Deed] = {"GET": Zooid._tell_members}


def _made_up(relay_id: str) -> Config:
    name = f"relay_{''.join(filter(str.isalnum, relay_id))}"
    secret = generate_secret_key()
    return checked(
        {
            "host": f"{name.replace('_', '-')}.relays.example",
            "schema": name,
            "secret": secret,
            "info": {"pubkey": pubkey_of(secret)},
        }
    )
