"""`manage.py sandbox --only zooid` in an environment without any configuration."""

import signal
import subprocess
import sys
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest
import requests
import time_machine

from caravel import dev_defaults
from caravel.nostr.http_auth import authorization
from caravel.tests.support.processes import bounded
from caravel.tests.support.waiting import read_line
from sandbox.clock import VARIABLE, write_offset
from sandbox.common.nostr import generate_secret_key, npub, pubkey_of
from sandbox.tests.support.sandbox_command import (
    ROOT,
    clean_environment,
    running_command,
    search,
)
from sandbox.tests.support.zooid import KEY, authenticate, connected, control
from sandbox.zooid import running_zooid
from sandbox.zooid.__main__ import PANIC_STATUS

pytestmark = pytest.mark.processes

ANN = pubkey_of(generate_secret_key())


class Process(NamedTuple):
    url: str


def list_members(url, key):
    url = f"{url}/relay/ID/members"
    signature = authorization(key, url=url, method="GET")
    return requests.get(url, headers={"Authorization": signature}, timeout=60)


def standalone(tmp_path, *options, **env):
    return running_command(tmp_path, "--zooid-port", "0", *options, only="zooid", **env)


def test_commands_and_urls_printed_by_sandbox_zooid_work(tmp_path):
    with standalone(tmp_path) as (process, screen):
        url = search(r"sandbox zooid on (http://\S+)", screen)
        robot = dev_defaults.defaults(tmp_path / "var")["ROBOT_SECRET"]
        assert f"managers  {pubkey_of(robot)}" in screen
        page = requests.get(search(r"page\s+(\S+)", screen), timeout=60)
        assert "Sandbox zooid" in page.text
        assert requests.get(search(r"control\s+(\S+)", screen), timeout=60).json() == {}

        curl = search(r"(curl .*)", screen).replace("npub1…", npub(ANN))
        subprocess.run(curl, shell=True, check=True, capture_output=True, timeout=60)
        assert list_members(url, robot).json()["members"][0] == ANN

        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)

    assert (process.returncode, rest) == (0, "")
    assert robot not in screen


def test_managers_can_be_set_and_relays_survive_a_kill_and_restart(tmp_path):
    robot, manager = generate_secret_key(), generate_secret_key()
    relays = ("--relays", str(tmp_path / "relays.json"))
    with standalone(tmp_path, *relays, ROBOT_SECRET=robot) as (process, screen):
        url = search(r"sandbox zooid on (http://\S+)", screen)
        assert list_members(url, robot).status_code == 404
        assert robot not in screen
        members = f"{url}/_sandbox/relays/ID/members"
        assert requests.post(members, json={"members": [ANN]}, timeout=60).ok
        process.kill()
        process.wait(60)

    whitelist = ("--whitelist", f"{ANN}, {pubkey_of(manager)}")
    with standalone(tmp_path, *relays, *whitelist) as (_, screen):
        url = search(r"sandbox zooid on (http://\S+)", screen)
        assert list_members(url, manager).json()["members"][0] == ANN
        default = dev_defaults.defaults(tmp_path / "var")["ROBOT_SECRET"]
        assert list_members(url, default).status_code == 403


def test_relay_without_an_owner_ends_sandbox_zooid_until_it_is_removed(tmp_path):
    relays = tmp_path / "relays.json"
    options = ("--relays", str(relays))
    with standalone(tmp_path, *options) as (process, screen):
        url = search(r"sandbox zooid on (http://\S+)", screen)
        config = {"host": "a.example", "schema": "a", "secret": generate_secret_key()}
        edit = f"{url}/_sandbox/relays/a"
        requests.post(edit, json={"config": config}, timeout=60)

        assert process.wait(60) == PANIC_STATUS

    again = start(tmp_path, "--zooid-port", "0", *options)
    _, stderr = again.communicate(timeout=60)
    assert again.returncode == PANIC_STATUS
    assert stderr == "panic: relay a: info.pubkey is not a public key\n"


def test_startup_error_of_sandbox_zooid_is_one_line(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("no relays")
    with running_zooid() as running:
        port = running.url.rpartition(":")[2]
        errors = {
            ("--zooid-port", port): f"cannot listen on 127.0.0.1:{port}: Address",
            ("--zooid-port", "0", "--relays", str(broken)): f"{broken} cannot be read",
        }
        started = [start(tmp_path, *options) for options in errors]
        for process, message in zip(started, errors.values(), strict=True):
            _, stderr = process.communicate(timeout=60)

            assert process.returncode == 1
            assert message in stderr
            assert len(stderr.splitlines()) == 1


def test_relay_knows_the_time_of_the_system_that_it_serves(tmp_path):
    clock, ahead = tmp_path / "clock", timedelta(days=70)
    write_offset(clock, ahead.total_seconds())
    running = start(tmp_path, "--zooid-port", "0", **{VARIABLE: str(clock)})
    with running as process, bounded(process):
        zooid = Process(search(r"(http://\S+)", read_line(process)))
        relay = control(zooid, "POST", "relays/reef/members", members=[ANN]).json()
        host = relay["host"]
        later = datetime.now().astimezone() + ahead
        with connected(zooid, host) as client, time_machine.travel(later):
            assert authenticate(client, KEY, f"wss://{host}") == (True, "")
        process.terminate()


def start(tmp_path, *options, **env):
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox.zooid", *options],
        cwd=ROOT,
        env={**clean_environment(tmp_path), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
