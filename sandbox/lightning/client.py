"""Client of the control API: `Control(url).post("wallets", name="alice")`."""

from typing import Any

import requests

TIMEOUT = 20.0


class Control:
    """Control API of the sandbox Lightning at `url`.

    Each method raises requests.HTTPError for an error status.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Any:
        """Return a resource."""
        return self._call("GET", path, {})

    def post(self, path: str, **body: Any) -> Any:
        """Run a command with these fields; return its result."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> Any:
        """Run a DELETE command; return its result."""
        return self._call("DELETE", path, {})

    def _call(self, method: str, path: str, body: dict[str, Any]) -> Any:
        url = f"{self.url}/_sandbox/{path}"
        response = requests.request(method, url, json=body, timeout=TIMEOUT)
        response.raise_for_status()
        return response.json()
