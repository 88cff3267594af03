"""HTTP client for stripe-python that calls an app without a socket."""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import stripe
from requests.structures import CaseInsensitiveDict

from sandbox.common.http import Request
from sandbox.stripe.app import StripeApp

# The SDK leaves this constructor untyped.
CONNECTION_ERROR: Callable[..., Exception] = stripe.APIConnectionError


class InProcessClient(stripe.HTTPClient):
    """HTTP client of stripe.StripeClient that calls `app.handle`."""

    name = "in-process"

    def __init__(self, app: StripeApp) -> None:
        super().__init__()
        self.app = app

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        **options: Any,
    ) -> tuple[str, int, Mapping[str, str]]:
        """Return body, status and headers. Raises stripe.APIConnectionError."""
        parts = urlsplit(url)
        response = self.app.handle(
            Request(
                method.upper(),
                parts.path,
                parts.query,
                {name.lower(): value for name, value in (headers or {}).items()},
                (post_data or "").encode(),
            )
        )
        if response.broken:
            raise CONNECTION_ERROR(
                f"the connection was {response.broken}", should_retry=True
            )
        response_headers = CaseInsensitiveDict(response.headers)
        return response.body.decode(), response.status, response_headers

    def close(self) -> None:
        """Nothing to close."""


def in_process_client(
    app: StripeApp, api_key: str = "sk_test_sandbox"
) -> stripe.StripeClient:
    """Return a StripeClient that calls the app directly."""
    return stripe.StripeClient(
        api_key, http_client=InProcessClient(app), max_network_retries=0
    )
