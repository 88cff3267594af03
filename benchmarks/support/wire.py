"""A raw keep-alive connection to the sandbox Stripe, with almost no overhead.

stripe-python builds objects from each response, which takes longer than the sandbox
takes to answer: it would measure the client.
"""

import socket
from typing import Any
from urllib.parse import urlencode, urlsplit


class Wire:
    """One connection."""

    def __init__(self, url: str, api_key: str = "sk_test_benchmark") -> None:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._socket = socket.create_connection(address, timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._responses = self._socket.makefile("rb")
        self._common = (
            f"Host: {parts.netloc}\r\n"
            f"Authorization: Bearer {api_key}\r\n"
            "Accept: */*\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
        )

    def get(self, path: str) -> bytes:
        """Return the body of the response. Raises RuntimeError unless it is a 200."""
        return self._request("GET", path, "", "")

    def post(self, path: str, form: dict[str, Any], key: str = "") -> bytes:
        """Return the body of the response. Raises RuntimeError unless it is a 200."""
        header = f"Idempotency-Key: {key}\r\n" if key else ""
        return self._request("POST", path, urlencode(form), header)

    def close(self) -> None:
        self._responses.close()
        self._socket.close()

    def _request(self, method: str, path: str, body: str, header: str) -> bytes:
        self._socket.sendall(
            f"{method} {path} HTTP/1.1\r\n{self._common}{header}"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        status = int(self._responses.readline().split(None, 2)[1])
        length = 0
        while (line := self._responses.readline()) != b"\r\n":
            if line[:15].lower() == b"content-length:":
                length = int(line[15:])
        content = self._responses.read(length)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {content.decode()}")
        return content
