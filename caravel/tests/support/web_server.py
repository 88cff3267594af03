"""The web process as the Procfile starts it, and raw connections to it."""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from caravel.tests.support.processes import PROCESS_LIMIT, bounded, default_signals
from caravel.tests.support.waiting import LIMIT, wait_until

ROOT = Path(__file__).resolve().parents[3]
_LISTENING = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")


def command(application: str = "caravel.wsgi", *options: str) -> list[str]:
    """Return the Procfile's command, with another application and more options."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("web:")]
    words = shlex.split(line.partition(":")[2].replace("caravel.wsgi", application))
    return [sys.executable, "-m", *words, "--bind", "127.0.0.1:0", *options]


class WebServer:
    """A running web process."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.port = port

    def connect(self) -> "Connection":
        return Connection(self.port)

    def get(self, path: str) -> int:
        """Return the status of the response to a request that is not slow."""
        with self.connect() as connection:
            connection.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.response()[0]


class Connection:
    """A connection to send anything over."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def send(self, text: str | bytes) -> None:
        self._socket.sendall(text if isinstance(text, bytes) else text.encode())

    def response(self) -> tuple[int, bytes]:
        """Return status and body of the next response."""
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline().lower()) != b"\r\n":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return status, self._file.read(length)

    def is_closed(self) -> bool:
        """Return whether the server has closed the connection, after its responses."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@contextmanager
def running(
    arguments: list[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    seconds: float = PROCESS_LIMIT,
) -> Iterator[WebServer]:
    """Run a web process for the length of the block, or so many seconds."""
    with default_signals(), log.open("w") as output:
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    with process, bounded(process, seconds=seconds):
        yield WebServer(process, _port(process, log))
        process.terminate()
        assert process.wait(LIMIT) == 0, log.read_text()


def _port(process: "subprocess.Popen[str]", log: Path) -> int:
    def is_listening() -> bool:
        assert process.poll() is None, log.read_text()
        return bool(_LISTENING.search(log.read_text()))

    wait_until(is_listening)
    return int(_LISTENING.findall(log.read_text())[0])
