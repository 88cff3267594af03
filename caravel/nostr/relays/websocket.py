"""Input from a relay: its bytes in turns, and its messages.

websockets handles bytes as they arrive, and answers each ping at once: a relay that
sends only pings would take all the time of the event loop without a single message.
Its `create_connection` is the documented place to change that:
https://websockets.readthedocs.io/en/stable/reference/asyncio/client.html
"""

import json
import re
import time
from collections.abc import Container
from contextlib import suppress
from typing import Any

from websockets.asyncio.client import ClientConnection

from caravel.nostr.relays.time_share import TURN, RelayTime

#: Number of bytes that are handled first; it doubles while there is time.
_MIN_PIECE = 256
#: Seconds of CPU time for reading a byte and decoding it.
_BYTE_COST = 1e-9
#: Maximum number of bytes that wait for a relay which does not read.
_MAX_UNREAD = 1024 * 1024
#: Maximum number of lists and objects in a message: a tag is a list.
_MAX_CONTAINERS = 3_000
#: Start of a message of NIP-01, and the subscription of an event.
_START = re.compile(
    r'\s{0,9}\[\s{0,9}"(?:(?:EOSE|CLOSED|NOTICE|OK|AUTH)"'
    r'|EVENT"\s{0,9},\s{0,9}"([^"]{0,64})"\s{0,9},)'
)
#: Maximum length of a relay's reason, which is shown to people.
_MAX_REASON = 150


class MeteredConnection(ClientConnection):
    """Websocket whose received bytes are handled in the relay's turns."""

    def __init__(self, *args: Any, relay_time: RelayTime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._relay_time = relay_time
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        """Handle bytes now, or in a later turn."""
        # The work before and after _handle cannot be measured for each relay.
        self._relay_time.charge(len(data) * _BYTE_COST)
        has_work = bool(self._received)
        self._received += data
        if not has_work:
            # More bytes wait in the socket, so that the relay has to wait, too.
            self.transport.pause_reading()
            self._relay_time.run(self._handle)

    def send_data(self) -> None:
        """Send the answers to many pings at once.

        One by one, asyncio would log each that it cannot send.
        """
        chunks = self.protocol.data_to_send()
        if self.transport.is_closing():
            return
        if data := b"".join(chunks):
            self.transport.write(data)
        if b"" in chunks:  # websockets' sign for the end of the stream
            self._end_stream()

    def _end_stream(self) -> None:
        if self.transport.can_write_eof():
            with suppress(OSError):  # the relay has closed its side, too
                self.transport.write_eof()
        else:
            self.transport.close()

    def eof_received(self) -> None:
        """Drop the bytes that wait, since none may follow the end.

        TLS reports the end although reading is paused.
        """
        self._received.clear()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop the bytes that wait."""
        self._received.clear()
        super().connection_lost(exc)

    def _handle(self) -> None:
        started_at, size = time.thread_time(), _MIN_PIECE
        while self._received and time.thread_time() - started_at < TURN:
            piece = bytes(self._received[:size])
            del self._received[:size]
            super().data_received(piece)
            size *= 2
        self._relay_time.charge(time.thread_time() - started_at)
        if self.transport.get_write_buffer_size() > _MAX_UNREAD:
            self.transport.abort()
        elif self._received:
            self._relay_time.run_later(self._handle)
        else:
            self.transport.resume_reading()


def parse_message(message: str | bytes, subscriptions: Container[str]) -> object:
    """Return a message's JSON, or None if it is none that is waited for.

    Others are not parsed, nor those with more lists than an event needs.
    """
    start = _START.match(message) if isinstance(message, str) else None
    if start is None or not isinstance(message, str):
        return None
    if start[1] is not None and start[1] not in subscriptions:
        return None
    if message.count("[") + message.count("{") > _MAX_CONTAINERS:
        return None
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


def printable_reason(values: list[object]) -> str:
    """Return the printable part of a relay's reason, which may be anything."""
    # str() of a list of lists takes long, and only a text is a reason.
    text = values[0][:_MAX_REASON] if values and isinstance(values[0], str) else ""
    return "".join(filter(str.isprintable, text))
