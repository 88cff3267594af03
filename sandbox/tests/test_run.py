"""`make run` and `make demo` as processes: what they show, and what they leave."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from caravel import dev_defaults, embedded
from sandbox.supervisor import free_ports

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.processes


def environment(var: Path) -> dict[str, str]:
    """A newcomer's: none of what this test run has set for itself."""
    ours = re.compile(
        r"DATABASE_URL|REDIS_URL|DEBUG|STRIPE_|CARAVEL_|SECRET_KEY|APP_URL"
        r"|ROBOT_|BTC_|NWC_|LIGHTNING_|NOSTR_|SANDBOX_|BEAT_|ZOOID_"
    )
    kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
    names = ("PORT", "STRIPE_PORT", "LIGHTNING_PORT", "NOSTR_PORT", "ZOOID_PORT")
    ports = dict(zip(names, map(str, free_ports([0] * len(names))), strict=True))
    return {**kept, **ports, "CARAVEL_VAR": str(var), "DEBUG": "true"}


@contextmanager
def running(var: Path, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start `make run` and yield it with all it printed up to its first screen."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "sandbox.run"],
        cwd=ROOT,
        env={**environment(var), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process, read_until(process, "Ctrl-C stops everything")
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout
    seen = ""
    line: str
    for line in process.stdout:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"it ended before {text!r}:\n{seen}")


def processes_of(var: Path) -> list[str]:
    """Return the command lines that mention the directory or have it as environment."""
    found = []
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            facts = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(var) in facts and int(proc.name) != os.getpid():
            found.append((proc / "cmdline").read_text().replace("\0", " "))
    return found


def wait_until_gone(var: Path) -> None:
    deadline = time.monotonic() + 20
    while left := processes_of(var):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def address(screen: str, name: str) -> str:
    found = re.search(rf"{name}\s+(http://\S+)", screen)
    assert found, screen
    return found[1]


def test_the_first_screen_is_true_and_ctrl_c_leaves_nothing(tmp_path):
    var = tmp_path / "with a space"

    with running(var) as (process, screen):
        login = address(screen, "admin")
        assert "user admin, password " in screen
        assert b"Log in" in urllib.request.urlopen(login, timeout=10).read()
        assert (
            urllib.request.urlopen(address(screen, "health"), timeout=10).status == 200
        )
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(
                f"{address(screen, 'Stripe')}/v1/customers", timeout=10
            )
        page = urllib.request.urlopen(address(screen, "Lightning"), timeout=10)
        assert b"nostr+walletconnect://" in page.read()
        page = urllib.request.urlopen(address(screen, "zooid"), timeout=10)
        assert b"No relay was put here." in page.read()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert not (var / dev_defaults.RUN_FILE).exists()
    wait_until_gone(var)


def test_a_second_start_says_who_runs_and_the_data_is_kept(tmp_path):
    with running(tmp_path) as (_, first):
        second = subprocess.run(
            [sys.executable, "-m", "sandbox.run"],
            cwd=ROOT,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
        )
        password = re.search(r"password (\S+)", first)
    wait_until_gone(tmp_path)

    assert second.returncode == 1
    assert "already" in second.stderr
    assert "Traceback" not in second.stderr
    assert password
    with running(tmp_path) as (_, again):
        assert password[0] in again
    wait_until_gone(tmp_path)


def test_killed_it_leaves_nothing_either(tmp_path):
    with running(tmp_path) as (process, _):
        assert len(processes_of(tmp_path)) >= 10
        process.kill()
        process.wait()
        wait_until_gone(tmp_path)


def test_when_the_database_dies_everything_stops_and_says_why(tmp_path):
    with running(tmp_path) as (process, _):
        url = embedded.addresses(tmp_path).database_url
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            assert row
            backend = Path(f"/proc/{row[0]}/stat").read_text()
        postmaster = int(backend.rsplit(")", 1)[1].split()[1])
        os.kill(postmaster, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)

    assert process.returncode != 0
    assert "PostgreSQL does not answer any more" in output
    wait_until_gone(tmp_path)
