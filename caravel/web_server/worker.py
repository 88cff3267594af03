"""The worker process: its listening sockets, its threads, and its end."""

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.conf import settings
from gunicorn.workers import base
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import BaseWSGIServer

from caravel.web_server.connection import Channel, Phase

logger = structlog.get_logger(__name__)

#: Limit on a process's connections, plus two for each address that it listens on.
MAX_CONNECTIONS = 200
#: Bytes of a request's first line and headers; signatures and cookies need 2,000.
MAX_HEADERS = 16 * 1024
_POLL_SECONDS = 0.5
#: Seconds for requests that are on their way when the process stops.
_STOP_SECONDS = 2


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
            channel.cancel()


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
            "max_request_body_size": settings.MAX_BODY + 1,
            "recv_bytes": 64 * 1024,
            "ident": None,
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
