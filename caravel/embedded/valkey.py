"""The embedded Valkey."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from caravel.embedded.layout import Layout, valkey_binary
from caravel.embedded.processes import Server, ServiceUser, read_pid, stop_orphan

_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0
_ANSWER_TIMEOUT = 2.0
_PID_FILE = "valkey.pid"


@contextmanager
def running(layout: Layout, *, durable: bool) -> Iterator[Server]:
    """Run Valkey. Raises EmbeddedError."""
    account = ServiceUser.for_data(layout.valkey_data)
    account.make_directory(layout.valkey_data)
    server = _launch(layout, account, durable=durable)
    try:
        server.wait_until(lambda: answers(layout), timeout=_START_TIMEOUT)
        yield server
    finally:
        signals = (signal.SIGTERM,) if durable else ()
        server.stop(*signals, timeout=_STOP_TIMEOUT)


def stop_orphans(layout: Layout) -> None:
    """Stop the server of a killed owner."""
    pid_file = layout.valkey_data / _PID_FILE
    if (pid := read_pid(pid_file)) is not None:
        stop_orphan(pid, layout.valkey_data, signal.SIGTERM)
    pid_file.unlink(missing_ok=True)


def answers(layout: Layout) -> bool:
    """Return whether the server accepts commands (not while it loads its data)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_TIMEOUT)
        try:
            connection.connect(str(layout.valkey_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _launch(layout: Layout, account: ServiceUser, *, durable: bool) -> Server:
    data = layout.valkey_data
    options = {
        "port": "0",
        "unixsocket": str(layout.valkey_socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "pidfile": str(data / _PID_FILE),
        "save": "",
        "appendonly": "yes" if durable else "no",
        "maxmemory-policy": "noeviction",
        # `runs_with` recognises the process by the path among its arguments.
        "set-proc-title": "no",
    }
    arguments = [
        part for name, value in options.items() for part in (f"--{name}", value)
    ]
    return Server.start(
        [valkey_binary(), *arguments],
        account=account,
        log=layout.valkey_log,
        dies_by=signal.SIGTERM,
    )
