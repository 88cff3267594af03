"""Minimal mail server on a real socket (RFC 5321)."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message


class MailServer(socketserver.ThreadingTCPServer):
    """Stores e-mails in `received`; refuses recipients with `refusal` if it is set."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.received: list[Message] = []
        self.refusal = ""

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._send("220 ready")
        while line := self.rfile.readline():
            verb = line.split(None, 1)[0].upper().decode()
            if verb == "QUIT":
                return self._send("221 bye")
            if verb == "RCPT" and self.server.refusal:
                self._send(self.server.refusal)
            elif verb == "DATA":
                self._receive()
            else:
                self._send("250 fine")
        return None

    def _receive(self) -> None:
        self._send("354 go on")
        lines = iter(self.rfile.readline, b".\r\n")
        self.server.received.append(message_from_bytes(b"".join(lines)))
        self._send("250 accepted")

    def _send(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@contextmanager
def running_mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
