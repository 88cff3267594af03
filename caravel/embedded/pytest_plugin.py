"""pytest plugin: temporary PostgreSQL and Valkey servers for one test run.

Load it with `-p caravel.embedded.pytest_plugin`. If DATABASE_URL or REDIS_URL is
exported, that server is used instead. Each worker of pytest-xdist has its own servers,
whose PostgreSQL data is a copy: initdb, which takes a second, runs once.
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
# PostgreSQL data to be copied; set for the workers and for the runs that tests start.
_TEMPLATE = "CARAVEL_TEST_TEMPLATE"
# Minimum age of leftovers, in seconds: a younger run may not have locked its directory.
_MIN_AGE = 60.0
_description = pytest.StashKey[str]()
_placeholders = pytest.StashKey[list[str]]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config,
) -> Generator[None, None, None]:
    """Start the servers before pytest-django loads the settings in the same hook."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell ignores SIGINT in background jobs, and child processes inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["DEBUG"] = "false"
    os.environ["CARAVEL_ENV"] = "test"
    early_config.stash[_description] = _provide(early_config)
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Let the workers, which inherit this environment, start servers of their own."""
    _unset(config.stash.get(_placeholders, []))


def pytest_report_header(config: pytest.Config) -> str:
    return f"servers: {config.stash[_description]}"


def _provide(config: pytest.Config) -> str:
    """Set the URLs of the servers, and return a description for the report header."""
    if all(os.environ.get(name) for name in _URLS):
        return "DATABASE_URL and REDIS_URL of the environment"
    stack = ExitStack()
    config.add_cleanup(stack.close)
    directory = stack.enter_context(_temporary_directory())
    missing = [name for name in _URLS if not os.environ.get(name)]
    template = Path(os.environ.get(_TEMPLATE) or directory / "none")
    if _distributes(config):
        if not template.exists():
            template = stack.enter_context(embedded.template(directory))
            os.environ[_TEMPLATE] = str(template)
            stack.callback(_unset, [_TEMPLATE])
        place = "each worker"
        servers = embedded.addresses(directory)
        config.stash[_placeholders] = [*missing, "CARAVEL_VAR"]
    else:
        place = str(directory)
        servers = stack.enter_context(
            embedded.servers(directory, durable=False, template=template)
        )
    urls = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
    os.environ.update({name: urls[name] for name in missing})
    # Tests neither use nor generate the checkout's development secrets.
    os.environ["CARAVEL_VAR"] = str(directory / "var")
    stack.callback(_unset, [*missing, "CARAVEL_VAR"])
    return f"temporary ones in {place} for {' and '.join(missing)}"


def _distributes(config: pytest.Config) -> bool:
    """Return whether workers of pytest-xdist will run the tests, not this process."""
    in_worker = "PYTEST_XDIST_WORKER" in os.environ
    workers = getattr(config.known_args_namespace, "numprocesses", None)
    return bool(workers) and not in_worker


def _unset(names: list[str]) -> None:
    for name in names:
        os.environ.pop(name, None)


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    _remove_leftovers()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        yield directory
    finally:
        # No longer locked, so another run may be deleting it at the same time.
        shutil.rmtree(directory, ignore_errors=True)


def _remove_leftovers() -> None:
    """Delete the unused directories of test runs that were killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Raised if the directory is in use; other failures must not stop the run.
        with suppress(OSError, embedded.EmbeddedError):
            if _is_own_directory(directory) and _was_started(directory):
                embedded.remove(directory)


def _is_own_directory(path: Path) -> bool:
    status = path.lstat()  # not stat(): a link is not followed
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _was_started(directory: Path) -> bool:
    """Return whether the run has started its servers, or is too old to be starting."""
    age = time.time() - directory.stat().st_mtime
    return (directory / "postgres").exists() or age > _MIN_AGE
