"""`manage.py sandbox` in an environment without any configuration or services."""

import re
import signal
import subprocess
import sys
import urllib.request

import pytest
import stripe

from sandbox.tests.support.sandbox_command import (
    ROOT,
    clean_environment,
    running_command,
    search,
)
from sandbox.tests.support.stripe import builders
from sandbox.tests.support.stripe.receiver import running_http_receiver

SECRET = "whsec_test"
pytestmark = pytest.mark.processes


@pytest.fixture
def endpoint():
    with running_http_receiver() as server:
        yield server


def test_commands_and_urls_printed_by_sandbox_stripe_work(tmp_path):
    with running_command(tmp_path, "--port", "0") as (process, screen):
        url = search(r"sandbox Stripe on (http://\S+)", screen)
        snippet = screen.partition("  import stripe\n")[2].partition("\n\n")[0]
        names: dict[str, object] = {"stripe": stripe}
        exec(re.sub(r"(?m)^  ", "", snippet), names)
        client = names["client"]
        assert isinstance(client, stripe.StripeClient)
        assert client.v1.customers.list().data[0].email == "ann@example.com"
        curl = search(r"(curl .*)", screen)
        result = subprocess.run(
            curl.split(), capture_output=True, text=True, timeout=60
        )
        assert '"object":"customer"' in result.stdout, result.stderr
        state = urllib.request.urlopen(search(r"control\s+(\S+)", screen), timeout=60)
        assert b'"customer":2' in state.read()
        assert f"page      {url}/" in screen

        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)

    assert (process.returncode, rest) == (0, "")
    assert not (tmp_path / "var" / "postgres").exists()


def test_options_set_api_key_state_seed_and_webhook_endpoint(tmp_path, endpoint):
    options = (
        *("--port", "0", "--api-key", "sk_test_mine", "--seed", "3"),
        *("--state", str(tmp_path / "state.sqlite")),
        *("--webhook-url", endpoint.url, "--webhook-secret", SECRET),
    )
    ids = []
    for _ in range(2):
        with running_command(tmp_path, *options) as (process, screen):
            url = search(r"sandbox Stripe on (http://\S+)", screen)
            transport = stripe.RequestsClient(timeout=60)
            api = stripe.StripeClient(
                "sk_test_mine", base_addresses={"api": url}, http_client=transport
            )
            before = [customer.id for customer in api.v1.customers.list().data]
            ids.append(builders.customer(api).id)
            transport.close()
            process.terminate()
            assert process.wait(60) == 0

    body, signature = endpoint.wait_for(2)[0]
    assert stripe.Webhook.construct_event(body, signature, SECRET)
    assert before == ids[:1]
    assert "sk_test_mine" in screen
    assert endpoint.url in screen


def test_port_in_use_is_reported_in_one_line(tmp_path, stripe_sandbox):
    port = stripe_sandbox.url.rpartition(":")[2]

    result = subprocess.run(
        [sys.executable, "manage.py", "sandbox", "--port", port],
        cwd=ROOT,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr.startswith(f"sandbox Stripe cannot listen on 127.0.0.1:{port}")
    assert len(result.stderr.splitlines()) == 1
