"""The connection below HTTP."""

import asyncio
import socket
import struct

# SO_LINGER with a time of zero: closing the socket sends RST instead of FIN.
_ABORT = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def break_connection(transport: asyncio.Transport, *, reset: bool) -> None:
    """End a connection at once, by RST or by FIN."""
    if reset:
        transport.get_extra_info("socket").setsockopt(*_ABORT)
    transport.abort()
