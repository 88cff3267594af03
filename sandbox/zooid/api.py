"""The management API, after zooid's source and README."""

from collections.abc import Callable, Collection
from typing import NamedTuple

from sandbox.common.control import Refused
from sandbox.common.http import Request, Response, json_response
from sandbox.zooid.auth import verify_signature
from sandbox.zooid.configs import BadConfig, Config, merge_patch, parse_object, validate
from sandbox.zooid.relays.instances import Instances
from sandbox.zooid.store import Store

#: Only the newest requests are recorded.
_MAX_REQUESTS = 10_000


class ApiRequest(NamedTuple):
    """A recorded request to the API."""

    method: str
    path: str


class Api:
    """The API under its own host; callers must hold a lock."""

    def __init__(
        self, whitelist: Collection[str], store: Store, instances: Instances
    ) -> None:
        self.requests: list[ApiRequest] = []
        self.is_lenient = False
        self._whitelist = frozenset(whitelist)
        self._store = store
        self._instances = instances

    def record(self, request: Request) -> None:
        """Record a request."""
        self.requests.append(ApiRequest(request.method, request.path))
        del self.requests[:-_MAX_REQUESTS]

    def handle(self, request: Request) -> Response:
        """Handle a request."""
        try:
            if verify_signature(request) not in self._whitelist:
                raise Refused(403, "pubkey not in whitelist")
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
            raise Refused(400, "relay id is required")
        handler = _HANDLERS.get((request.method, subresource))
        if handler is None:
            raise Refused(405, "method not allowed")
        return handler(self, relay_id, request)

    def _create(self, relay_id: str, request: Request) -> Response:
        if relay_id in self._store.configs:
            raise Refused(409, "relay with this id already exists")
        self._save_config(relay_id, parse_object(request.body))
        return json_response(201, {"message": "relay created successfully"})

    def _replace(self, relay_id: str, request: Request) -> Response:
        self._get_config(relay_id)
        self._save_config(relay_id, parse_object(request.body))
        return json_response(200, {"message": "relay updated successfully"})

    def _patch(self, relay_id: str, request: Request) -> Response:
        config = self._get_config(relay_id)
        self._save_config(relay_id, merge_patch(config, parse_object(request.body)))
        return json_response(200, {"message": "relay patched successfully"})

    def _delete(self, relay_id: str, request: Request) -> Response:
        self._get_config(relay_id)
        del self._store.configs[relay_id]
        self._written(relay_id)
        return json_response(200, {"message": "relay deleted successfully"})

    def _list_members(self, relay_id: str, request: Request) -> Response:
        config = self._get_config(relay_id)
        return json_response(200, {"members": self._store.database.members(config)})

    def _get_config(self, relay_id: str) -> Config:
        if relay_id not in self._store.configs:
            raise Refused(404, "relay not found")
        return self._store.configs[relay_id]

    def _save_config(self, relay_id: str, data: Config) -> None:
        config = validate(data, is_lenient=self.is_lenient)
        for other, taken in self._store.configs.items():
            if other == relay_id:
                continue
            # In this order, for each relay; the schema with its case.
            for name in ("schema", "host"):
                if taken.get(name) == config[name]:
                    raise Refused(409, f'{name} "{config[name]}" is already in use')
        self._store.configs[relay_id] = config
        self._written(relay_id)

    def _written(self, relay_id: str) -> None:
        self._store.save()
        self._instances.write(relay_id, "api")


#: By method, and by the part of the relay that the path names.
_HANDLERS: dict[tuple[str, str], Callable[[Api, str, Request], Response]] = {
    ("POST", ""): Api._create,
    ("PUT", ""): Api._replace,
    ("PATCH", ""): Api._patch,
    ("DELETE", ""): Api._delete,
    ("GET", "members"): Api._list_members,
}
