"""Misbehaving relays on real sockets."""

import base64
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from caravel.nostr.relays.dial import Endpoint
from caravel.tests.support.waiting import join

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_TEXT, _CLOSE = 1, 8  # opcodes
_CLOSE_FRAME = b"\x88\x02\x03\xe9"  # 1001, going away


class Client:
    """Connection of one client, for the relay's script."""

    def __init__(self, websocket: ServerConnection) -> None:
        self.websocket = websocket

    def send(self, *message: object) -> None:
        self.websocket.send(json.dumps(message))

    def receive(self) -> list[Any]:
        message: list[Any] = json.loads(self.websocket.recv())
        return message

    def receive_until(self, verb: str) -> list[Any]:
        while (message := self.receive())[0] != verb:
            pass
        return message


@contextmanager
def scripted_relay(
    script: Callable[[Client], None], *, host: str = "127.0.0.1"
) -> Iterator[Endpoint]:
    """Run a relay that executes the script for each client."""

    def run(websocket: ServerConnection) -> None:
        with suppress(ConnectionClosed, OSError):
            script(Client(websocket))

    with serve(run, host, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        try:
            yield Endpoint(f"ws://{host}:{port}", private_allowed=True)
        finally:
            server.shutdown()
            join(thread)


@contextmanager
def http_server(response: bytes) -> Iterator[Endpoint]:
    """Run a server that sends each client the same bytes and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_all() -> None:
            with suppress(OSError):  # closed
                while True:
                    client, _ = listening.accept()
                    with client, suppress(OSError):
                        _read_request(client)
                        client.sendall(response)

        thread = threading.Thread(target=serve_all)
        thread.start()
        port = listening.getsockname()[1]
        try:
            yield Endpoint(f"ws://127.0.0.1:{port}", private_allowed=True)
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            join(thread)


@contextmanager
def deaf_relay() -> Iterator[tuple[Endpoint, threading.Event]]:
    """Run a relay that sends pings and reads nothing, until it is disconnected."""
    disconnected = threading.Event()
    ping = b"\x89\x7d" + b"x" * 125
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # Its clients inherit the size (tcp(7)).
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)

        def serve_one() -> None:
            client, _ = listening.accept()
            with client, suppress(OSError):
                client.sendall(_handshake(_read_request(client)))
                while True:
                    client.sendall(ping * 100)
            disconnected.set()

        thread = threading.Thread(target=serve_one)
        thread.start()
        port = listening.getsockname()[1]
        yield Endpoint(f"ws://127.0.0.1:{port}", private_allowed=True), disconnected
        join(thread)


class RawRelay:
    """Relay that sends a close frame but keeps the TCP connection open.

    It does so after `close_after` messages of its first client. With 0 it sends the
    frame to each client at once, with -1 to none.
    """

    def __init__(self, *, close_after: int) -> None:
        self._close_after = close_after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.received: list[list[Any]] = []
        self.close_frames = 0
        port = self._listening.getsockname()[1]
        self.endpoint = Endpoint(f"ws://127.0.0.1:{port}", private_allowed=True)
        self._start(self._run)

    @property
    def accepted(self) -> int:
        return len(self._clients)

    def requests_for(self, kinds: list[int]) -> int:
        """Return how many received subscriptions have a filter with these kinds."""
        requests = [message for message in self.received if message[0] == "REQ"]
        return sum(request[2]["kinds"] == kinds for request in requests)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        join(*self._threads)
        for client in self._clients:
            client.close()

    def _start(self, run: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=run, args=args))
        self._threads[-1].start()

    def _run(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                self._clients.append(client)
                self._start(self._serve, client, len(self._clients) == 1)

    def _serve(self, client: socket.socket, is_first: bool) -> None:
        handshake = _handshake(_read_request(client))
        close_after = self._close_after if is_first or not self._close_after else -1
        with client.makefile("rb") as stream, suppress(OSError, EOFError):
            client.sendall(handshake + (_CLOSE_FRAME if close_after == 0 else b""))
            while True:
                opcode, payload = _read_frame(stream)
                self.close_frames += opcode == _CLOSE
                if opcode == _TEXT:
                    self.received.append(json.loads(payload))
                    if len(self.received) == close_after:
                        client.sendall(_CLOSE_FRAME)


@contextmanager
def raw_relay(*, close_after: int) -> Iterator[RawRelay]:
    relay = RawRelay(close_after=close_after)
    try:
        yield relay
    finally:
        relay.close()


def _read_frame(stream: Any) -> tuple[int, bytes]:
    """Return opcode and payload of the next frame (RFC 6455, 5.2). Raises EOFError."""
    head = stream.read(2)
    if len(head) < 2:
        raise EOFError
    size = head[1] & 0x7F
    if size == 126:
        size = int.from_bytes(stream.read(2), "big")
    mask, masked = stream.read(4), stream.read(size)
    return head[0] & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(masked))


def _read_request(client: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request and (part := client.recv(4096)):
        request += part
    return request


def _handshake(request: bytes) -> bytes:
    lines = request.decode().split("\r\n")
    key = next(line for line in lines if line.lower().startswith("sec-websocket-key"))
    digest = hashlib.sha1((key.partition(":")[2].strip() + _GUID).encode()).digest()
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n\r\n"
    ).encode()
