"""Deliveries over connections that are kept, as a proxy in front of us keeps them."""

import re
import selectors
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import quantiles

import stripe

#: Deliveries on their way at once: as many as the web processes have threads.
CONNECTIONS = 16
SECRET = "whsec_benchmark"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Deliveries:
    """Responses to deliveries, in seconds, and the CPU time that they took."""

    durations: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    elapsed: float = 0.0
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Responses per second."""
        return len(self.durations) / self.elapsed

    @property
    def p99(self) -> float:
        return quantiles(self.durations, n=100)[-1]

    @property
    def work(self) -> float:
        """CPU time of the web processes for a delivery."""
        return self.cpu / len(self.durations)

    @property
    def refused(self) -> int:
        """The number of responses other than 2xx."""
        return sum(n for status, n in self.statuses.items() if status // 100 != 2)

    def send(self, port: int, requests: Iterable[bytes]) -> None:
        """Send requests, each as soon as a connection is free."""
        remaining = iter(requests)
        started = time.perf_counter()
        with selectors.DefaultSelector() as selector:
            for _ in range(CONNECTIONS):
                _Connection(port, selector).send_next(remaining)
            while selector.get_map():
                for key, _ in selector.select(timeout=60):
                    connection: _Connection = key.data
                    if status := connection.receive():
                        self.durations.append(connection.waited)
                        self.statuses[status] += 1
                        connection.send_next(remaining)
        self.elapsed += time.perf_counter() - started


class _Connection:
    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector = selector
        selector.register(self._socket, selectors.EVENT_READ, self)
        self.waited = 0.0

    def send_next(self, remaining: Iterator[bytes]) -> None:
        request = next(remaining, None)
        if request is None:
            self._selector.unregister(self._socket)
            self._socket.close()
            return
        self._received = b""
        self._sent_at = time.perf_counter()
        self._socket.sendall(request)

    def receive(self) -> int:
        """Return the status of a response that has arrived whole, else 0."""
        part = self._socket.recv(65_536)
        if not part:
            raise RuntimeError("The server has closed a connection.")
        self._received += part
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or (length and len(body) < int(length[1])):
            return 0
        self.waited = time.perf_counter() - self._sent_at
        return int(head.split(b" ", 2)[1])


def request(path: str, body: str) -> bytes:
    """Return a signed delivery of an event."""
    signature = stripe.WebhookSignature.generate_signature_header(body, SECRET)
    content = body.encode()
    head = (
        f"POST /{path} HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json; charset=utf-8\r\n"
        f"Content-Length: {len(content)}\r\nStripe-Signature: {signature}\r\n\r\n"
    )
    return head.encode() + content
