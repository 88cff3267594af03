"""The embedded PostgreSQL."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from caravel.embedded.errors import EmbeddedError
from caravel.embedded.layout import DATABASE, PORT, Layout, postgres_binary
from caravel.embedded.processes import (
    Server,
    ServiceUser,
    die_with_parent,
    environment,
    read_pid,
    stop_orphan,
)

if TYPE_CHECKING:
    import psycopg

_START_TIMEOUT = 60.0  # a start after a crash replays the log first
_INITDB_TIMEOUT = 60.0
_STOP_TIMEOUT = 10.0
_MEMORY_IN_USE = "pre-existing shared memory block"
# The backends of a killed postmaster take a moment to end and free the shared memory.
_MEMORY_TIMEOUT = 5.0
_NOT_DURABLE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@contextmanager
def running(
    layout: Layout, *, durable: bool, template: Path | None = None
) -> Iterator[Server]:
    """Run PostgreSQL with the database `caravel`. Raises EmbeddedError.

    New data is a copy of the template, if that exists.
    """
    account = initialise(layout, template)
    server = _start(layout, account, durable=durable)
    # SIGTERM (smart shutdown) waits for all clients; SIGQUIT skips the checkpoint.
    # https://www.postgresql.org/docs/current/server-shutdown.html
    signals = (signal.SIGINT, signal.SIGQUIT) if durable else (signal.SIGQUIT,)
    try:
        _create_database(layout)
        yield server
    finally:
        server.stop(*signals, timeout=_STOP_TIMEOUT)


def stop_orphans(layout: Layout) -> None:
    """Stop the server of a killed owner, and remove stale lock files."""
    # PostgreSQL refuses to start while the pid in one of its two lock files exists,
    # even as a zombie or an unrelated process.
    for lock in _lock_files(layout):
        if (pid := read_pid(lock)) is not None:
            data = layout.postgres_data
            stop_orphan(pid, data, signal.SIGINT, signal.SIGQUIT)
        lock.unlink(missing_ok=True)


def initialise(layout: Layout, template: Path | None = None) -> ServiceUser:
    """Create the data directory, unless it exists; return the user that it is for."""
    data = layout.postgres_data
    account = ServiceUser.for_data(data)
    if data.exists():
        return account
    # Renamed when complete: an interrupted initdb leaves an unusable cluster.
    draft = data.with_name("postgres.new")
    if draft.exists():
        shutil.rmtree(draft)
    if template and template.exists():
        # shutil.copytree() would not keep the owner, and takes as long as initdb.
        subprocess.run(["cp", "-a", template, draft], check=True)
    else:
        account.make_directory(draft)
        _run_initdb(draft, account)
    draft.rename(data)
    return account


def answers(layout: Layout, database: str = DATABASE) -> bool:
    """Return whether the database accepts connections."""
    import psycopg

    try:
        _connect(layout, database).close()
    except psycopg.OperationalError:
        return False
    return True


def _run_initdb(directory: Path, account: ServiceUser) -> None:
    command: list[str | Path] = [
        *account.prefix(signal.SIGTERM),
        postgres_binary("initdb"),
        f"--pgdata={directory}",
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        # The same sort order on every machine.
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--locale=C",
        "--no-sync",
        "--no-instructions",
    ]
    try:
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_INITDB_TIMEOUT,
            cwd="/",
            env=environment(),
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
    except subprocess.CalledProcessError as exc:
        output = exc.stdout.decode(errors="replace").strip()
        raise EmbeddedError(f"initdb failed:\n{output}") from exc
    except subprocess.TimeoutExpired as exc:
        raise EmbeddedError(f"initdb took over {_INITDB_TIMEOUT:.0f} s.") from exc


def _start(layout: Layout, account: ServiceUser, *, durable: bool) -> Server:
    deadline = time.monotonic() + _MEMORY_TIMEOUT
    while True:
        server = _launch(layout, account, durable=durable)
        try:
            server.wait_until(
                lambda: answers(layout, "postgres"), timeout=_START_TIMEOUT
            )
        except EmbeddedError:
            server.stop(signal.SIGQUIT, timeout=_STOP_TIMEOUT)
            in_time = time.monotonic() < deadline
            if not (in_time and _MEMORY_IN_USE in server.output()):
                raise
        except BaseException:
            server.stop(signal.SIGQUIT, timeout=_STOP_TIMEOUT)
            raise
        else:
            return server


def _launch(layout: Layout, account: ServiceUser, *, durable: bool) -> Server:
    options = {
        "listen_addresses": "",
        "port": str(PORT),
        # A list of names; unquoted, a space would end the name.
        "unix_socket_directories": '"{}"'.format(str(layout.run).replace('"', '""')),
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        # Four processes less, for which one machine's few data have no work.
        "io_method": "sync",
        "max_logical_replication_workers": "0",
        # Of an SSD, or of memory. By its default, of a hard disk, PostgreSQL reads
        # whole tables to find a few hundred rows.
        "random_page_cost": "1.1",
        **({} if durable else _NOT_DURABLE),
    }
    settings = [f"--{name}={value}" for name, value in options.items()]
    return Server.start(
        [postgres_binary("postgres"), "-D", layout.postgres_data, *settings],
        account=account,
        log=layout.postgres_log,
        dies_by=signal.SIGINT,
    )


def _create_database(layout: Layout) -> None:
    import psycopg

    query = "SELECT FROM pg_database WHERE datname = %s"
    try:
        with _connect(layout, "postgres") as connection:
            if connection.execute(query, [DATABASE]).rowcount == 0:
                # template1 cannot be copied while a client is connected to it.
                connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
    except psycopg.Error as exc:
        raise EmbeddedError(f"Cannot create the database: {exc}") from exc


def _connect(layout: Layout, database: str) -> "psycopg.Connection":
    import psycopg

    return psycopg.connect(
        host=str(layout.run),
        port=PORT,
        user="postgres",
        dbname=database,
        autocommit=True,
        connect_timeout=5,
    )


def _lock_files(layout: Layout) -> tuple[Path, Path]:
    socket = layout.postgres_socket
    return (
        layout.postgres_data / "postmaster.pid",
        socket.with_name(f"{socket.name}.lock"),
    )
