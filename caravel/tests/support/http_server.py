"""An HTTP server whose responses, connections and requests tests see as bytes."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer


@dataclass(frozen=True)
class Received:
    """A request that was received."""

    method: str
    path: str
    #: By name in lower case.
    headers: Mapping[str, str]
    body: bytes


@dataclass
class HttpServer:
    """Server on loopback: `respond` returns the bytes to send, b"" to hang up."""

    respond: Callable[[Received], bytes]
    url: str = ""
    connections: int = 0
    requests: list[Received] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def response(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """Return a complete response; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def running_server(
    respond: Callable[[Received], bytes], tls: ssl.SSLContext | None = None
) -> Iterator[HttpServer]:
    """Serve for the length of the block."""
    server = HttpServer(respond)

    class Handler(StreamRequestHandler):
        def setup(self) -> None:
            server.connections += 1
            super().setup()

        def handle(self) -> None:
            with suppress(ConnectionError):
                while request := _read(self):
                    server.requests.append(request)
                    answer = server.respond(request)
                    self.wfile.write(answer)
                    if not answer:
                        return

    class Listener(ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *_: object) -> None:
            """Ignore connections that the client ends."""

    with Listener(("127.0.0.1", 0), Handler) as listener:
        if tls:
            listener.socket = tls.wrap_socket(listener.socket, server_side=True)
        scheme = "https" if tls else "http"
        server.url = f"{scheme}://127.0.0.1:{listener.server_address[1]}"
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


def _read(handler: StreamRequestHandler) -> Received | None:
    line = handler.rfile.readline().decode()
    if not line:
        return None
    method, path, _ = line.split()
    headers = {}
    while line := handler.rfile.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = handler.rfile.read(int(headers.get("content-length", 0)))
    return Received(method, path, headers, body)
