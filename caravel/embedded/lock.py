"""Lock file of a checkout: its holder owns the embedded servers."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caravel.embedded.errors import AlreadyRunning
from caravel.embedded.processes import describe, read_pid

# flock() belongs to the open file, which a fork shares. The child closes its copies at
# once, so that a worker that outlives the owner does not keep the lock.
_descriptors: set[int] = set()


@contextmanager
def ownership_lock(path: Path) -> Iterator[None]:
    """Hold the lock. Raises AlreadyRunning with the holder's process id."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning(_holder_message(path)) from None
    _descriptors.add(descriptor)
    owner = os.getpid()
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        # In a fork the descriptor is closed, and its number may be reused.
        if os.getpid() == owner:
            _descriptors.remove(descriptor)
            os.close(descriptor)


def _close_copies() -> None:
    while _descriptors:
        os.close(_descriptors.pop())


os.register_at_fork(after_in_child=_close_copies)


def _holder_message(path: Path) -> str:
    pid = read_pid(path)
    holder = describe(pid) if pid else "another process"
    return f"The servers under {path.parent} already run: {holder} started them."
