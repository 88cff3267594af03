"""`make run` as processes: the running system, its restart, and its ends.

A start takes seconds of ten processes. So one test goes through all that one system
can show; each step is a subtest with its name.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import requests

from caravel import dev_defaults, embedded
from caravel.nostr import generate_secret_key, pubkey_of
from caravel.tests.support.waiting import LIMIT, wait_until
from sandbox.tests.support.running_system import (
    NPUB,
    ROOT,
    Run,
    clean_environment,
    processes_of,
    running,
    wait_until_gone,
)

pytestmark = pytest.mark.processes

ANN = pubkey_of(generate_secret_key())
ANOTHER = f"nostr+walletconnect://{'1' * 64}?relay=wss://real.example&secret={'2' * 64}"
#: Real services in the environment, which the run must not use.
PRODUCTION = {
    "ROBOT_WALLET": ANOTHER,
    "ROBOT_SECRET": generate_secret_key(),
    "BTC_PRICE_URLS": "https://real.example/{currency}#/a",
    "ZOOID_API_URL": "https://zooid.example",
}
CREATE_TENANT = f"""
from relays.services.lifecycle import create_relay
from tenants.services.tenants import get_or_create_tenant
tenant, _ = get_or_create_tenant(pubkey="{NPUB}")
create_relay(tenant_id=tenant.pk, subdomain="first", plan_id="basic")
"""
ISSUE_BOLT11 = """
from billing.models import InvoiceCollection
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
print(get_or_issue_bolt11(invoice_id=InvoiceCollection.objects.unpaid().get().pk).bolt11)
"""
PRINT_MEMBERS = """
from relays.models import Relay
from relays.services.members import list_members
print("members:", list_members(relay_id=Relay.objects.get().pk))
"""
NEWEST_INVOICE = """
SELECT state, outcome, last_error, next_attempt_at FROM billing_invoicecollection
ORDER BY created_at DESC LIMIT 1
"""
PENDING = "SELECT request_event_id FROM lightning_nwcpayment WHERE state = 'pending'"


@pytest.mark.longest
def test_system_works_keeps_its_data_and_leaves_no_process(tmp_path, subtests):
    var = tmp_path / "with a space"
    quick = {"BEAT_WATCH_INVOICES": "1", "LIGHTNING_REFUSAL_PAUSE": "1"}
    with running(var, **quick, **PRODUCTION) as run:
        with subtests.test("each address on the first screen responds"):
            assert_addresses_respond(run)
        with subtests.test("the settings name the sandboxes only"):
            assert_sandboxes_are_configured(run)
        with subtests.test("a second make run is refused"):
            assert_second_run_is_refused(var)
        run.manage("shell", "-c", CREATE_TENANT)
        with subtests.test("the relay runs within seconds"):
            wait_until_served(run)
        with subtests.test("a wallet pays the first invoice"):
            pay_by_wallet(run)
        with subtests.test("an invoice that the wallet refuses is paid by hand"):
            pay_by_hand(run)
        with subtests.test("the admin shows the payments"):
            assert_admin_shows_payments(run)
        with subtests.test("members are fetched from the sandbox"):
            assert_members_are_fetched(run)
        with subtests.test("a payment stays pending"):
            start_silent_payment(run)
        pending = run.query(PENDING)
        assert_no_traceback(run.output())
        assert len(processes_of(var)) >= 10
        with subtests.test("everything stops with a reason when PostgreSQL dies"):
            kill_postgresql(var)
            run.process.wait(2 * LIMIT)
            assert run.process.returncode != 0
            assert "postgres has ended" in run.output()
            wait_until_gone(var)

    frequent = {"BEAT_WATCH_INVOICES": "1", "BEAT_RESOLVE_PAYMENTS": "1"}
    with running(var, **frequent) as restarted:
        with subtests.test("a restart keeps the password and the members"):
            assert password(restarted) == password(run)
            assert ANN in restarted.get("zooid", "_sandbox/relays").text
        with subtests.test("a pending payment is not sent again"):
            assert_only_looked_up(restarted, pending)
        # The pending payment does not delay the stop.
        stop(restarted)
    with subtests.test("Ctrl-C leaves no process"):
        wait_until_gone(var)
        assert not (var / dev_defaults.RUN_FILE).exists()


# --- steps


def assert_addresses_respond(run: Run) -> None:
    assert "user admin, password " in run.screen
    assert "Log in" in run.get("admin").text
    assert run.get("health").status_code == 200
    assert run.get("Stripe", "v1/customers").status_code == 401
    assert "nostr+walletconnect://" in run.get("Lightning").text
    assert "No relays." in run.get("zooid").text


def assert_sandboxes_are_configured(run: Run) -> None:
    defaults = dev_defaults.defaults(run.var)
    assert defaults["ROBOT_WALLET"] == run.control.get("wallets/platform")["url"]
    assert defaults["BTC_PRICE_URLS"].startswith(run.control.url)
    assert defaults["ZOOID_API_URL"] == run.address("zooid").rstrip("/")
    assert (run.var / dev_defaults.RUN_FILE).stat().st_mode & 0o777 == 0o600


def assert_second_run_is_refused(var: Path) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "sandbox.demo.run"],
        cwd=ROOT,
        env=clean_environment(var),
        capture_output=True,
        text=True,
        timeout=2 * LIMIT,
    )
    assert second.returncode == 1
    assert "already" in second.stderr
    assert "Traceback" not in second.stderr


def wait_until_served(run: Run) -> None:
    zooid = run.address("zooid")
    headers = {
        "Host": f"first.relays.localhost:{urlsplit(zooid).port}",
        "Accept": "application/nostr+json",
    }
    wait_until(
        lambda: requests.get(zooid, headers=headers, timeout=LIMIT).ok,
        "the relay's NIP-11 document",
    )


def pay_by_wallet(run: Run) -> None:
    assert run.connect("rich").startswith("Connected rich at 127.0.0.1")
    run.wait_for("paid", 1)
    assert run.control.get("wallets/platform")["balance_msat"] == 7_813_000


def pay_by_hand(run: Run) -> None:
    assert run.connect("refuses").startswith("Connected refuses")
    run.advance_a_month()
    run.wait_for("open", 1)
    payments = "SELECT count(*) FROM lightning_nwcpayment"
    refused = f"{payments} WHERE state = 'refused' AND code = %s"
    run.wait_for_count(1, refused, "INSUFFICIENT_BALANCE")
    # Without notifications only the periodic check finds the payment.
    run.control.post("relay/faults", kind="drop", kinds=[23196, 23197])
    output = run.manage("shell", "-c", ISSUE_BOLT11)
    bolt11 = re.search(r"^lnbcrt\w+$", output, re.MULTILINE)
    assert bolt11, output
    run.control.post("wallets/poor/pay", bolt11=bolt11[0])
    run.wait_for("paid", 2)


def assert_admin_shows_payments(run: Run) -> None:
    page = run.admin("lightning/nwcpayment/")
    assert "refused (nothing was spent)" in page
    assert "paid" in page
    assert "walletconnect" not in page


def assert_members_are_fetched(run: Run) -> None:
    (relay_id,) = run.query("SELECT id FROM relays_relay")
    url = f"{run.address('zooid')}_sandbox/relays/{relay_id}/members"
    assert requests.post(url, json={"members": [ANN]}, timeout=LIMIT).ok
    output = run.manage("shell", "-c", PRINT_MEMBERS)
    assert "members: [" in output and ANN in output, output


def start_silent_payment(run: Run) -> None:
    """Charge the next invoice to a wallet that never replies."""
    run.control.post("wallets/slow/behaviour", kind="silent")
    assert run.connect("slow").startswith("Connected slow")
    run.advance_a_month()
    wait_until(
        lambda: run.count_requests("slow", "pay_invoice"),
        "a request",
        details=lambda: run.query(NEWEST_INVOICE),
    )
    assert run.query(PENDING)


def kill_postgresql(var: Path) -> None:
    with psycopg.connect(embedded.addresses(var).database_url) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row
        backend = Path(f"/proc/{row[0]}/stat").read_text()
    os.kill(int(backend.rsplit(")", 1)[1].split()[1]), signal.SIGKILL)


def assert_only_looked_up(run: Run, pending: object) -> None:
    wait_until(lambda: run.count_requests("platform", "lookup_invoice"), "a lookup")
    assert run.query(PENDING) == pending
    assert run.count_requests("slow", "pay_invoice") == 0


def password(run: Run) -> str:
    match = re.search(r"password (\S+)", run.screen)
    assert match
    return match[1]


def stop(run: Run) -> None:
    """Stop the system with Ctrl-C."""
    run.process.send_signal(signal.SIGINT)
    run.process.wait(2 * LIMIT)
    assert run.process.returncode == 0, run.output()
    assert_no_traceback(run.output())
    assert "secret=" not in run.output()


def assert_no_traceback(output: str) -> None:
    assert "Traceback" not in without_lost_ticks(output), output


def without_lost_ticks(output: str) -> str:
    """Return the output without beat's errors if Valkey timed out.

    On an overloaded machine beat may fail to enqueue a task; its next tick does that.
    """
    lines = output.splitlines()
    beats = [line for line in lines if re.match(r"\S+ beat +\|", line)]
    if not any("Timeout reading from socket" in line for line in beats):
        return output
    return "\n".join(line for line in lines if line not in beats)
