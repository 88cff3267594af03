"""Hostile clients of the web process, as a process of their own until it is killed.

    python -m benchmarks.support.attackers slow|paths|schema PORT

Prints a line when the attack has begun.
"""

import itertools
import random
import socket
import sys
import threading
import time
from contextlib import suppress

from caravel.web_server.request import MAX_URL

#: Connections of slow clients, and the seconds between two of their bytes.
SLOW, PAUSE = 300, 1.0
#: Clients that send one request after the other, and the seconds between two. Together
#: they ask for less than a third of a core, at a millisecond each; one such request
#: used to cost a second. Many more would be a flood, which a proxy must limit.
BUSY, BUSY_PAUSE = 12, 0.05
_BODY = (
    "POST /stripe/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n"
)


def slow(port: int) -> None:
    """Send a byte of many bodies each second; replace connections that are closed."""
    connections: list[socket.socket] = []
    for number in itertools.count():
        started = time.monotonic()
        connections = [each for each in connections if _sends(each, b"x")]
        connections += [_begin(port) for _ in range(SLOW - len(connections))]
        if number == 0:
            print("begun", flush=True)
        time.sleep(max(0.0, PAUSE - (time.monotonic() - started)))


def paths(port: int) -> None:
    """Request the longest paths, with many beginnings of secrets to search for."""
    path = "secret" * (MAX_URL // 6)
    _send_busily(port, f"GET /{path[1:]} HTTP/1.1\r\n")


def schema(port: int) -> None:
    """Request the API's description."""
    _send_busily(port, "GET /api/schema HTTP/1.1\r\n")


def _send_busily(port: int, line: str) -> None:
    def run() -> None:
        while True:
            # Each from another address, as if through our proxy: no rate limit applies.
            address = ".".join(str(random.randrange(1, 255)) for _ in range(4))
            with suppress(OSError):
                request(port, f"{line}Host: localhost\r\nX-Forwarded-For: {address}")
            time.sleep(BUSY_PAUSE)

    for _ in range(BUSY):
        threading.Thread(target=run, daemon=True).start()
    print("begun", flush=True)
    threading.Event().wait()


def request(port: int, head: str, body: bytes = b"") -> int:
    """Send a request over a connection of its own, and return the response's status."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)
        received = connection.recv(65_536)
        while connection.recv(65_536):
            pass
    return int(received.split(b" ", 2)[1])


def _begin(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(_BODY.encode())
    return connection


def _sends(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except OSError:
        connection.close()
        return False
    return True


if __name__ == "__main__":
    {"slow": slow, "paths": paths, "schema": schema}[sys.argv[1]](int(sys.argv[2]))
