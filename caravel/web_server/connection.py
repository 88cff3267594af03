"""Connections: what each waits for, and how long it may."""

import time
from enum import Enum
from math import inf
from typing import Any

from waitress.channel import HTTPChannel
from waitress.task import WSGITask

from caravel.web_server.request import Parser, Refusal


class Phase(Enum):
    """Phase of a connection."""

    REQUEST = "a request has begun to arrive, or is the first"
    THREAD = "a request runs, or waits for a thread"
    RESPONSE = "the client receives a response"
    NEXT_REQUEST = "the client may send another request"
    REFUSED = "the client has received a refusal, and closes"


#: Seconds that a client has. Our own work has time-outs of its own. A response takes
#: as many seconds for each MiB.
SECONDS = {
    Phase.REQUEST: 20,
    Phase.RESPONSE: 60,
    # Longer than proxies keep idle connections, or they would use one while it closes:
    # https://nginx.org/en/docs/http/ngx_http_upstream_module.html#keepalive_timeout
    Phase.NEXT_REQUEST: 75,
    # Closed at once, the client could lose our response.
    Phase.REFUSED: 5,
}

_MIB = 1024 * 1024


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

    parser_class = Parser
    task_class = Task
    error_task_class = Refusal
    is_refused = False
    is_pipelined = False
    _served = 0
    _sent = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._state, self._since = (Phase.REQUEST, 0, 0), time.monotonic()

    def handle_read(self) -> None:
        if self.is_refused:
            self.recv(self.adj.recv_bytes)
        else:
            super().handle_read()

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent: int = super().send(data, do_close)
        self._sent += sent
        return sent

    def writable(self) -> bool:
        if self.requests:
            # While a thread sends, waitress would ask again and again whether it can.
            if not self.outbuf_lock.acquire(blocking=False):
                return False
            self.outbuf_lock.release()
        return bool(super().writable())

    def send_continue(self) -> None:
        if self.is_refused or self.request.completed:
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
            # A download's thread waits until the client has received more of it.
            is_blocked = self.total_outbufs_len > self.adj.outbuf_high_watermark
            return Phase.RESPONSE if is_blocked else Phase.THREAD
        if self.total_outbufs_len:
            return Phase.RESPONSE
        if self.is_refused:
            return Phase.REFUSED
        has_begun = self.request is not None or not self._served
        return Phase.REQUEST if has_begun else Phase.NEXT_REQUEST

    def waited(self, now: float) -> float:
        """Return for how many seconds it has been in its phase, when last looked at."""
        state = (self.phase, self._served, self._sent // _MIB)
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
