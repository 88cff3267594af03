"""The control interface for programs: `Control(url).post("wallets", name="alice")`."""

from typing import Any

import requests

TIMEOUT = 20.0


class Control:
    """A sandbox Lightning that listens at `url`.

    Each method raises requests.HTTPError for what the sandbox refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> Any:
        """Return a part of the state."""
        return self._call("GET", path, {})

    def post(self, path: str, **body: Any) -> Any:
        """Do something; return what came of it."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> Any:
        """Undo something; return what came of it."""
        return self._call("DELETE", path, {})

    def _call(self, method: str, path: str, body: dict[str, Any]) -> Any:
        url = f"{self.url}/_sandbox/{path}"
        answer = requests.request(method, url, json=body, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()
