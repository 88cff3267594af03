"""A pytest plugin: a throw-away PostgreSQL and Valkey for one run of the tests.

Load it with `-p caravel.embedded.pytest_plugin`. An exported DATABASE_URL or REDIS_URL
is used as it is.
"""

import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from caravel import embedded

_PREFIX = "caravel-test-"
_URLS = ("DATABASE_URL", "REDIS_URL")
# A directory this young may belong to a run that has not locked it yet.
_YOUNG = 60.0
_used = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config,
) -> Generator[None, None, None]:
    """Start the servers before pytest-django, inside this call, loads the settings."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started in the background: our processes would inherit deafness to Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["DEBUG"] = "false"
    os.environ["CARAVEL_ENV"] = "test"
    early_config.stash[_used] = _provide(early_config)
    return (yield)


def pytest_report_header(config: pytest.Config) -> str:
    return f"servers: {config.stash[_used]}"


def _provide(config: pytest.Config) -> str:
    """Set the two addresses, and return in words what they lead to."""
    if all(os.environ.get(name) for name in _URLS):
        return "DATABASE_URL and REDIS_URL of the environment"
    stack = ExitStack()
    config.add_cleanup(stack.close)
    directory = stack.enter_context(_throw_away())
    found = stack.enter_context(embedded.servers(directory, durable=False))
    given = {"DATABASE_URL": found.database_url, "REDIS_URL": found.redis_url}
    missing = [name for name in _URLS if not os.environ.get(name)]
    os.environ.update({name: given[name] for name in missing})
    # The checkout's own secrets are not for tests, nor made by them.
    os.environ["CARAVEL_VAR"] = str(directory / "var")
    stack.callback(_unset, [*missing, "CARAVEL_VAR"])
    return f"throw-away ones in {directory} for {' and '.join(missing)}"


def _unset(names: list[str]) -> None:
    for name in names:
        os.environ.pop(name, None)


@contextmanager
def _throw_away() -> Iterator[Path]:
    _remove_leftovers()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        yield directory
    finally:
        # Unlocked by now, so another run may be deleting it too.
        shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers() -> None:
    """Delete what runs that were killed left, and nothing that is in use."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # One in use is locked, and one that resists is no reason not to test.
        with suppress(OSError, embedded.EmbeddedError):
            if _is_ours(directory) and _was_started(directory):
                embedded.remove(directory)


def _is_ours(directory: Path) -> bool:
    found = directory.lstat()  # of a link, not of what it leads to
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _was_started(directory: Path) -> bool:
    """Return whether its servers ran, or will not: it may have just been made."""
    age = time.time() - directory.stat().st_mtime
    return (directory / "postgres").exists() or age > _YOUNG
