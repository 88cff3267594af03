"""Connections: what each waits for, how long it may, and which requests are refused."""

import json
import time
from enum import Enum
from math import inf
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

#: Characters of a URL's path and query: what is served here has less than 1,000, and
#: each line of the log is searched for secrets.
MAX_URL = 1_500
_CODES = {413: "body-too-large", 414: "url-too-long", 431: "headers-too-large"}


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


class UrlTooLong(Error):
    code = 414
    reason = "URI Too Long"


class Parser(HTTPRequestParser):
    """A request as far as it has arrived; one with a long URL is refused at once."""

    error: Error | None = None

    def received(self, data: bytes) -> int:
        consumed: int = super().received(data)
        is_parsed = self.headers_finished and not (self.empty or self.error)
        if is_parsed and len(self.request_uri) > MAX_URL:
            self.error = UrlTooLong("")
            self.completed = True
        return consumed


class Task(WSGITask):
    """A request; a process that stops closes its connection afterwards."""

    def start(self) -> None:
        super().start()
        if not self.channel.server.accepting:
            self.set_close_on_finish()


class Refusal(ErrorTask):
    """A response to a request that is too large or not HTTP, in the API's envelope."""

    def execute(self) -> None:
        error = self.request.error
        code = _CODES.get(error.code, error.reason.lower().replace(" ", "-"))
        body = json.dumps({"error": f"{error.reason}.", "code": code}).encode()
        self.status = f"{error.code} {error.reason}"
        self.response_headers.append(("Content-Type", "application/json"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)

    def set_close_on_finish(self) -> None:
        self.channel.is_refused = True
        if ("Connection", "close") not in self.response_headers:
            self.response_headers.append(("Connection", "close"))


class Channel(HTTPChannel):
    """A connection."""

    parser_class = Parser
    task_class = Task
    error_task_class = Refusal
    is_refused = False
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

    def service(self) -> None:
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
