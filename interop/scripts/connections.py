"""The connections of a server that runs in this process."""

import os
import socket
from contextlib import suppress
from pathlib import Path


def drop_connections(port: int) -> None:
    """Shut down all connections to a port on which this process listens."""
    for file in Path("/dev/fd").iterdir():
        with suppress(OSError), socket.socket(fileno=os.dup(int(file.name))) as copy:
            is_ours = copy.family == socket.AF_INET and copy.getsockname()[1] == port
            if is_ours and copy.getpeername():  # the listening socket has none
                copy.shutdown(socket.SHUT_RDWR)
