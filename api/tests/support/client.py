"""An API client that signs its requests with a Nostr key."""

import json
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.test import Client

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.http_auth import authorization


@dataclass(frozen=True)
class ApiResponse:
    """A response with its decoded JSON body."""

    status: int
    body: dict[str, Any]
    headers: Any

    @property
    def data(self) -> Any:
        assert self.body["code"] == "ok", self.body
        return self.body["data"]

    @property
    def error(self) -> tuple[int, str]:
        """Status and code of an error response."""
        assert self.body["error"] and "data" not in self.body, self.body
        return self.status, self.body["code"]


@dataclass
class ApiClient:
    """A caller with a key of its own that signs each request."""

    key: str = field(default_factory=generate_secret_key, repr=False)
    client: Client = field(
        default_factory=lambda: Client(raise_request_exception=False)
    )

    @property
    def pubkey(self) -> str:
        return pubkey_of(self.key)

    def get(self, path: str) -> ApiResponse:
        return self.call("GET", path)

    def post(self, path: str, data: object = None) -> ApiResponse:
        return self.call("POST", path, data)

    def patch(self, path: str, data: object = None) -> ApiResponse:
        return self.call("PATCH", path, data)

    def download(self, path: str) -> Any:
        """Return Django's response, whose body is a file."""
        header = authorization(self.key, url=settings.APP_URL + path, method="GET")
        return self.client.get(path, headers={"Authorization": header})

    def call(self, method: str, path: str, data: object = None) -> ApiResponse:
        return self.send(
            method, path, b"" if data is None else json.dumps(data).encode()
        )

    def send(self, method: str, path: str, body: bytes) -> ApiResponse:
        """Sign and send a raw body."""
        header = authorization(
            self.key, url=settings.APP_URL + path, method=method, body=body
        )
        return call(self.client, method, path, body, {"Authorization": header})


def call(
    client: Client,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> ApiResponse:
    """Send a request without signing it."""
    response = client.generic(
        method, path, body, content_type="application/json", headers=headers or {}
    )
    return ApiResponse(
        response.status_code, json.loads(response.content), response.headers
    )
