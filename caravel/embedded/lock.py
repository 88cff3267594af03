"""Who owns the servers of a checkout: the process that holds this lock."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caravel.embedded.errors import AlreadyRunning
from caravel.embedded.processes import describe, read_pid

# A lock lasts until its last copy is closed, and a fork has copies: they are closed
# there at once, so that a worker that survives us does not keep it.
_held: set[int] = set()


@contextmanager
def ownership_lock(path: Path) -> Iterator[None]:
    """Hold the lock. Raises AlreadyRunning, which names the holder."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise AlreadyRunning(_sentence(path)) from None
    _held.add(descriptor)
    owner = os.getpid()
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        if os.getpid() == owner:  # in a fork the number may mean another file by now
            _held.remove(descriptor)
            os.close(descriptor)


def _close_copies() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_copies)


def _sentence(path: Path) -> str:
    pid = read_pid(path)
    who = describe(pid) if pid else "another process"
    return f"The servers under {path.parent} already run: {who} started them."
