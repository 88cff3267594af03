"""The web server: waitress in the worker processes of gunicorn (ADR 30).

A request gets a thread when it has arrived whole; until then it costs a few kilobytes.
Clients that take too long are disconnected, and if there are too many connections,
those that have waited longest.

    gunicorn caravel.wsgi --worker-class caravel.web_server.Worker

Of gunicorn's options those that concern connections and requests have no effect, except
`--bind`, `--backlog` and `--threads`.
"""

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from math import inf
from typing import Any

import structlog
from django.conf import settings
from gunicorn.workers import base
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import WSGITask

from caravel.core.web.request_parser import Refusal, RequestParser

logger = structlog.get_logger(__name__)

#: Limit on a process's connections, plus two for each address that it listens on.
MAX_CONNECTIONS = 200
#: Bytes of a request's first line and headers; signatures and cookies need 2,000.
MAX_HEADERS = 16 * 1024
_POLL_SECONDS = 0.5


class Phase(Enum):
    """Phase of a connection."""

    REQUEST = "a request has begun to arrive, or is the first"
    THREAD = "a request runs, or waits for a thread"
    RESPONSE = "the client receives a response"
    NEXT_REQUEST = "the client may send another request"
    REFUSED = "the client has received a refusal, and closes"


#: Seconds that a client has. Our own work has time-outs of its own.
SECONDS = {
    Phase.REQUEST: 20,
    Phase.RESPONSE: 60,
    # Longer than proxies keep idle connections, or they would use one while it closes:
    # https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive_timeout
    Phase.NEXT_REQUEST: 75,
    # Closed at once, the client could lose our response.
    Phase.REFUSED: 5,
}
#: Seconds for requests that are on their way when the process stops.
_STOP_SECONDS = 2


class Task(WSGITask):
    """A request; a process that stops closes its connection afterwards."""

    def start(self) -> None:
        super().start()
        if self.channel.is_pipelined or not self.channel.server.accepting:
            self.set_close_on_finish()

    def write(self, data: bytes) -> None:
        """Send a part of the response, of which HEAD gets the headers only."""
        # A client, or proxy, would take a body for the next response.
        is_head = self.request.command == "HEAD"
        super().write(b"" if is_head else data)
        if is_head:
            self.chunked_response = False


class Channel(HTTPChannel):
    """A connection."""

    task_class = Task
    error_task_class = Refusal
    parser_class = RequestParser
    is_refused = False
    is_pipelined = False
    _served = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._state, self._since = (Phase.REQUEST, 0), time.monotonic()

    def handle_read(self) -> None:
        if self.is_refused:
            # At the end of the stream this closes the channel.
            self.recv(self.adj.recv_bytes)
        else:
            super().handle_read()

    def writable(self) -> bool:
        if self.requests:
            # While a thread sends, waitress would ask again and again whether it can.
            if not self.outbuf_lock.acquire(blocking=False):
                return False
            self.outbuf_lock.release()
        return bool(super().writable())

    def send_continue(self) -> None:
        if self.is_refused or self.request.completed:
            # It has no body, or is refused without it.
            self.request.expect_continue = False
        else:
            super().send_continue()

    def service(self) -> None:
        """Serve one request, and drop others that the client did not wait to send.

        A thread would wait to send their responses. And if this one is refused, they
        are not requests, but its body.
        """
        with self.requests_lock:
            self.is_pipelined = len(self.requests) > 1
            for request in self.requests[1:]:
                request.close()
            del self.requests[1:]
        super().service()
        self._served += 1

    @property
    def phase(self) -> Phase:
        if self.requests:
            return Phase.THREAD
        if self.total_outbufs_len:
            return Phase.RESPONSE
        if self.is_refused:
            return Phase.REFUSED
        has_begun = self.request is not None or not self._served
        return Phase.REQUEST if has_begun else Phase.NEXT_REQUEST

    def waited(self, now: float) -> float:
        """Return for how many seconds it has been in its phase, when last looked at."""
        state = (self.phase, self._served)
        if state != self._state:
            self._state, self._since = state, now
        return now - self._since

    def is_late(self, now: float) -> bool:
        """Return whether the client has used up its time."""
        return self.waited(now) > SECONDS.get(self.phase, inf)

    @property
    def is_receiving(self) -> bool:
        """True while the client is to send something."""
        return self.phase not in (Phase.THREAD, Phase.RESPONSE)

    @property
    def is_empty(self) -> bool:
        """True while a request is awaited of which nothing has arrived."""
        return self.is_receiving and self.request is None


class Threads:
    """The threads that run the application, started when no other is idle.

    Each has a database connection, which waitress's own would use in turns.
    """

    def __init__(self, number: int) -> None:
        self._executor = ThreadPoolExecutor(number, thread_name_prefix="request")

    def add_task(self, channel: Channel) -> None:
        self._executor.submit(self._serve, channel)

    def _serve(self, channel: Channel) -> None:
        try:
            channel.service()
        except Exception:
            logger.exception("connection_failed")


class Server(BaseWSGIServer):
    """An address on which gunicorn listens."""

    channel_class = Channel

    def stop_accepting(self) -> None:
        self.accepting = False
        # Not its own `close`, which ends the wake-up calls of the threads as well.
        wasyncore.dispatcher.close(self)

    def maintenance(self, now: float) -> None:
        """Do nothing: `Worker` closes connections, by a clock that does not jump."""

    def getsockname(self) -> tuple[str, str]:
        name = self.socket.getsockname()
        is_unix = self.family == socket.AF_UNIX
        return ("unix", name) if is_unix else (name[0], str(name[1]))

    def set_socket_options(self, connection: socket.socket) -> None:
        if self.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fix_addr(self, addr: tuple[str, int] | str) -> tuple[str, int | None]:
        return ("localhost", None) if isinstance(addr, str) else (addr[0], addr[1])


class Worker(base.Worker):
    """A process: one thread receives and sends, the others run the application."""

    def run(self) -> None:
        self._map: dict[int, wasyncore.dispatcher] = {}
        self._next_check = 0.0
        servers = self._listen()
        while self.alive and self.ppid == os.getppid():
            self._poll()
        for server in servers:
            server.stop_accepting()
        self._finish()

    def _listen(self) -> list[Server]:
        threads = Threads(self.cfg.threads)
        adjustments = Adjustments(**self._adjustments())
        return [
            Server(
                self.wsgi,
                self._map,
                _sock=listener.sock,
                dispatcher=threads,
                adj=adjustments,
                bind_socket=False,
                sockinfo=(listener.sock.family, listener.sock.type, 0, None),
            )
            for listener in self.sockets
        ]

    def _adjustments(self) -> dict[str, object]:
        return {
            "backlog": self.cfg.backlog,
            "connection_limit": MAX_CONNECTIONS,
            "max_request_header_size": MAX_HEADERS,
            # It refuses this number itself, too.
            "max_request_body_size": settings.MAX_BODY + 1,
            "recv_bytes": 64 * 1024,
            "ident": None,
            # TRUSTED_PROXIES decides which are believed.
            "clear_untrusted_proxy_headers": False,
        }

    def _poll(self) -> None:
        """Receive and send what is possible; disconnect clients that are late."""
        self.notify()
        wasyncore.loop(timeout=_POLL_SECONDS, use_poll=True, map=self._map, count=1)
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _POLL_SECONDS
            self._close_if(lambda channel: channel.is_late(now))
        while len(self._map) >= MAX_CONNECTIONS and self._make_room(now):
            pass

    def _make_room(self, now: float) -> bool:
        """Close the connection that has waited longest for its client; False if none.

        A request that is not meant to be slow arrives before its turn comes.
        """
        waiting = [each for each in self._channels() if each.phase != Phase.THREAD]
        if waiting:
            max(waiting, key=lambda each: each.waited(now)).handle_close()
        return bool(waiting)

    def _finish(self) -> None:
        """Serve what has arrived; the master ends a process that takes too long."""
        end = time.monotonic() + _STOP_SECONDS
        while self._channels():
            self._poll()
            if time.monotonic() > end:
                self._close_if(lambda channel: channel.is_receiving)
            self._close_if(lambda channel: channel.is_empty)

    def _close_if(self, condition: Callable[[Channel], bool]) -> None:
        for channel in filter(condition, self._channels()):
            channel.handle_close()

    def _channels(self) -> list[Channel]:
        return [each for each in self._map.values() if isinstance(each, Channel)]
