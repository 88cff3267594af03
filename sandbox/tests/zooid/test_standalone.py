"""`manage.py sandbox --only zooid` in an environment without any configuration."""

import signal
import subprocess
import sys

import pytest
import requests

from caravel import dev_defaults
from caravel.nostr.http_auth import authorization
from sandbox.common.nostr import generate_secret_key, npub, pubkey_of
from sandbox.tests.support.sandbox_command import (
    ROOT,
    clean_environment,
    running_command,
    search,
)
from sandbox.zooid import running_zooid

pytestmark = pytest.mark.processes

ANN = pubkey_of(generate_secret_key())


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
        assert list_members(url, robot).json() == {"members": [ANN]}

        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)

    assert (process.returncode, rest) == (0, "")
    assert robot not in screen


def test_whitelist_and_state_file_can_be_set(tmp_path):
    key, file = generate_secret_key(), tmp_path / "relays.json"
    options = ("--relays", str(file), "--whitelist", f"{ANN}, {pubkey_of(key)}")
    with standalone(tmp_path, *options) as (process, screen):
        url = search(r"sandbox zooid on (http://\S+)", screen)
        members = f"{url}/_sandbox/relays/ID/members"
        assert requests.post(members, json={"members": [ANN]}, timeout=60).ok
        process.kill()
        process.wait(60)

    with standalone(tmp_path, *options) as (_, screen):
        url = search(r"sandbox zooid on (http://\S+)", screen)
        assert list_members(url, key).json() == {"members": [ANN]}
        robot = dev_defaults.defaults(tmp_path / "var")["ROBOT_SECRET"]
        assert list_members(url, robot).status_code == 403


def test_robot_of_the_environment_may_manage_relays(tmp_path):
    key = generate_secret_key()
    with standalone(tmp_path, ROBOT_SECRET=key) as (_, screen):
        url = search(r"sandbox zooid on (http://\S+)", screen)
        assert list_members(url, key).status_code == 404
    assert key not in screen


def test_startup_error_of_sandbox_zooid_is_one_line(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("no relays")
    with running_zooid() as running:
        port = running.url.rpartition(":")[2]
        errors = {
            ("--zooid-port", port): f"cannot listen on 127.0.0.1:{port}: Address",
            ("--zooid-port", "0", "--relays", str(broken)): f"{broken} cannot be read",
        }
        for options, message in errors.items():
            process = subprocess.run(
                [sys.executable, "-m", "sandbox.zooid", *options],
                cwd=ROOT,
                env=clean_environment(tmp_path),
                capture_output=True,
                text=True,
                timeout=60,
            )

            assert process.returncode == 1
            assert message in process.stderr
            assert len(process.stderr.splitlines()) == 1
