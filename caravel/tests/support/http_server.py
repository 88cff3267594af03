"""An HTTP server whose responses, connections and requests tests see as bytes."""

import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


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


def response(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """Return a complete response; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def self_signed(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """Return the context of a TLS server, and the file of its own certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = directory / "server.pem"
    file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


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
