"""A mail server on a real socket, as far as a client of it can tell (RFC 5321)."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message


class MailServer(socketserver.ThreadingTCPServer):
    """Takes e-mails, or refuses them with the answer it is given."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.taken: list[Message] = []
        self.refusal = ""

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._say("220 ready")
        while line := self.rfile.readline():
            verb = line.split(None, 1)[0].upper().decode()
            if verb == "QUIT":
                return self._say("221 bye")
            if verb == "RCPT" and self.server.refusal:
                self._say(self.server.refusal)
            elif verb == "DATA":
                self._take()
            else:
                self._say("250 fine")
        return None

    def _take(self) -> None:
        self._say("354 go on")
        lines = iter(self.rfile.readline, b".\r\n")
        self.server.taken.append(message_from_bytes(b"".join(lines)))
        self._say("250 taken")

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@contextmanager
def running_mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
