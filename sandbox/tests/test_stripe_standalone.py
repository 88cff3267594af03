"""`manage.py sandbox`: on a fresh checkout, with nothing else running."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import stripe

from sandbox.tests.support import stripe_builders as story
from sandbox.tests.test_stripe_events import SECRET, Receiver

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.processes


@pytest.fixture
def endpoint():
    """A webhook endpoint on a socket of its own."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def newcomer(tmp_path):
    """Return an environment in which nothing was set up, nor could be reached."""
    ours = re.compile(
        r"DATABASE_URL|REDIS_URL|DEBUG|STRIPE_|CARAVEL_|SECRET_KEY|APP_URL|DJANGO_"
        r"|ROBOT_|BTC_|NWC_|LIGHTNING_|NOSTR_|SANDBOX_"
    )
    kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
    return {**kept, "CARAVEL_VAR": str(tmp_path / "var")}


@contextmanager
def command(tmp_path, *options, only="stripe", **env):
    """Start the command and yield it with the screen it shows."""
    with subprocess.Popen(
        [sys.executable, "manage.py", "sandbox", "--only", only, *options],
        cwd=ROOT,
        env={**newcomer(tmp_path), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        guard = threading.Timer(60, process.kill)
        guard.start()
        try:
            yield process, screen_of(process)
        finally:
            guard.cancel()
            process.kill()


def screen_of(process):
    seen = ""
    while "Ctrl-C" not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    return seen


def found(pattern, screen):
    match = re.search(pattern, screen)
    assert match, screen
    return match[1]


def test_what_the_screen_says_is_true(tmp_path):
    with command(tmp_path, "--port", "0") as (process, screen):
        url = found(r"sandbox Stripe on (http://\S+)", screen)
        snippet = screen.partition("  import stripe\n")[2].partition("\n\n")[0]
        names: dict[str, object] = {"stripe": stripe}
        exec(re.sub(r"(?m)^  ", "", snippet), names)
        client = names["client"]
        assert isinstance(client, stripe.StripeClient)
        assert client.v1.customers.list().data[0].email == "ann@example.com"
        curl = found(r"(curl .*)", screen)
        done = subprocess.run(curl.split(), capture_output=True, text=True, timeout=20)
        assert '"object":"customer"' in done.stdout, done.stderr
        state = urllib.request.urlopen(found(r"control\s+(\S+)", screen), timeout=10)
        assert b'"customer":2' in state.read()
        assert f"page      {url}/" in screen

        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)

    assert (process.returncode, rest) == (0, "")
    assert not (tmp_path / "var" / "postgres").exists()


def test_it_takes_the_key_the_state_the_seed_and_the_endpoint_it_is_given(
    tmp_path, endpoint
):
    options = (
        *("--port", "0", "--api-key", "sk_test_mine", "--seed", "3"),
        *("--state", str(tmp_path / "state.sqlite")),
        *("--webhook-url", endpoint.url, "--webhook-secret", SECRET),
    )
    ids = []
    for _ in range(2):
        with command(tmp_path, *options) as (process, screen):
            url = found(r"sandbox Stripe on (http://\S+)", screen)
            transport = stripe.RequestsClient(timeout=20)
            api = stripe.StripeClient(
                "sk_test_mine", base_addresses={"api": url}, http_client=transport
            )
            before = [one.id for one in api.v1.customers.list().data]
            ids.append(story.customer(api).id)
            transport.close()
            process.terminate()
            assert process.wait(20) == 0

    body, signature = endpoint.wait_for(2)[0]
    assert stripe.Webhook.construct_event(body, signature, SECRET)
    assert before == ids[:1]
    assert "sk_test_mine" in screen
    assert endpoint.url in screen


def test_a_port_that_is_taken_is_named_in_one_line(tmp_path, stripe_sandbox):
    port = stripe_sandbox.url.rpartition(":")[2]

    done = subprocess.run(
        [sys.executable, "manage.py", "sandbox", "--port", port],
        cwd=ROOT,
        env=newcomer(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"sandbox Stripe cannot listen on 127.0.0.1:{port}")
    assert len(done.stderr.splitlines()) == 1
