"""`make run` as a process: its first screen, and its end."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psycopg
import pytest

from caravel import dev_defaults, embedded
from caravel.tests.support.waiting import LIMIT
from sandbox.tests.support.running_system import (
    ROOT,
    address,
    clean_environment,
    processes_of,
    running,
    wait_until_gone,
)

pytestmark = pytest.mark.processes


def test_make_run_prints_correct_screen_and_ctrl_c_leaves_no_process(tmp_path):
    var = tmp_path / "with a space"

    with running(var) as (process, screen):
        login = address(screen, "admin")
        assert "user admin, password " in screen
        assert b"Log in" in urllib.request.urlopen(login, timeout=LIMIT).read()
        assert (
            urllib.request.urlopen(address(screen, "health"), timeout=LIMIT).status
            == 200
        )
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(
                f"{address(screen, 'Stripe')}/v1/customers", timeout=LIMIT
            )
        page = urllib.request.urlopen(address(screen, "Lightning"), timeout=LIMIT)
        assert b"nostr+walletconnect://" in page.read()
        page = urllib.request.urlopen(address(screen, "zooid"), timeout=LIMIT)
        assert b"No relays." in page.read()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=2 * LIMIT)

    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert not (var / dev_defaults.RUN_FILE).exists()
    wait_until_gone(var)


def test_second_make_run_is_refused_and_a_restart_keeps_the_data(tmp_path):
    with running(tmp_path) as (_, first):
        second = subprocess.run(
            [sys.executable, "-m", "sandbox.demo.run"],
            cwd=ROOT,
            env=clean_environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=2 * LIMIT,
        )
        password = re.search(r"password (\S+)", first)
    wait_until_gone(tmp_path)

    assert second.returncode == 1
    assert "already" in second.stderr
    assert "Traceback" not in second.stderr
    assert password
    with running(tmp_path) as (_, restarted):
        assert password[0] in restarted
    wait_until_gone(tmp_path)


def test_killed_make_run_leaves_no_process(tmp_path):
    with running(tmp_path) as (process, _):
        assert len(processes_of(tmp_path)) >= 10
        process.kill()
        process.wait(LIMIT)
        wait_until_gone(tmp_path)


def test_everything_stops_with_a_reason_when_postgresql_dies(tmp_path):
    with running(tmp_path) as (process, _):
        url = embedded.addresses(tmp_path).database_url
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT pg_backend_pid()").fetchone()
            assert row
            backend = Path(f"/proc/{row[0]}/stat").read_text()
        postmaster = int(backend.rsplit(")", 1)[1].split()[1])
        os.kill(postmaster, signal.SIGKILL)
        output, _ = process.communicate(timeout=2 * LIMIT)

    assert process.returncode != 0
    assert "PostgreSQL no longer responds" in output
    wait_until_gone(tmp_path)
