"""`make run` with Lightning: wallets pay through the real processes."""

import re
import signal
from contextlib import contextmanager

import pytest

from caravel import dev_defaults
from caravel.tests.support.waiting import LIMIT, wait_until
from sandbox.tests.support.running_system import NPUB, Run, running, wait_until_gone

pytestmark = pytest.mark.processes

ANOTHER = f"nostr+walletconnect://{'1' * 64}?relay=wss://real.example&secret={'2' * 64}"
#: Real services in the environment, which the run must not use.
PRODUCTION = {
    "ROBOT_WALLET": ANOTHER,
    "BTC_PRICE_URLS": "https://real.example/{currency}#/a",
}
CREATE_TENANT = f"""
from relays.services.lifecycle import create_relay
from tenants.services.tenants import get_or_create_tenant
tenant, is_new = get_or_create_tenant(pubkey="{NPUB}")
if is_new:
    create_relay(tenant_id=tenant.pk, subdomain="first", plan_id="basic")
"""
ISSUE_BOLT11 = """
from billing.models import InvoiceCollection
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
print(get_or_issue_bolt11(invoice_id=InvoiceCollection.objects.unpaid().get().pk).bolt11)
"""


@contextmanager
def system(var, **env):
    with running(var, **env) as (process, screen):
        run = Run(var, process, screen)
        run.manage("shell", "-c", CREATE_TENANT)
        yield run


def test_invoices_are_paid_by_a_wallet_and_by_hand(tmp_path):
    with system(tmp_path, BEAT_WATCH_INVOICES="1", **PRODUCTION) as run:
        defaults = dev_defaults.defaults(tmp_path)
        own_url = run.control.get("wallets/platform")["url"]
        assert defaults["ROBOT_WALLET"] == own_url
        assert defaults["BTC_PRICE_URLS"].startswith(run.control.url)
        assert (tmp_path / dev_defaults.RUN_FILE).stat().st_mode & 0o777 == 0o600

        assert run.connect("rich").startswith("Connected rich at 127.0.0.1")
        run.wait_for("paid", 1)
        assert run.control.get("wallets/platform")["balance_msat"] == 7_813_000

        run.connect("refuses")
        run.advance_a_month()
        run.wait_for("open", 1)
        sql = "SELECT count(*) FROM lightning_nwcpayment WHERE code = %s"
        wait_until(
            lambda: run.query(sql, "INSUFFICIENT_BALANCE") == (1,),
            "the refusal",
        )

        # Without notifications only the periodic check finds the payment.
        run.control.post("relay/faults", kind="drop", kinds=[23196, 23197])
        output = run.manage("shell", "-c", ISSUE_BOLT11)
        bolt11 = re.search(r"^lnbcrt\w+$", output, re.MULTILINE)
        assert bolt11, output
        run.control.post("wallets/poor/pay", bolt11=bolt11[0])
        run.wait_for("paid", 2)

        page = run.admin("lightning/nwcpayment/")
        assert "refused (nothing was spent)" in page
        assert "paid" in page
        assert "walletconnect" not in page
        rest = stop(run)

    assert "secret=" not in run.screen + rest


def test_pending_payment_neither_delays_the_stop_nor_is_sent_again(tmp_path):
    frequent = {"BEAT_WATCH_INVOICES": "1", "BEAT_RESOLVE_PAYMENTS": "1"}
    attempt = "SELECT request_event_id, state FROM lightning_nwcpayment"
    with system(tmp_path) as run:
        run.control.post("wallets/slow/behaviour", kind="silent")
        run.connect("slow")
        wait_until(
            lambda: run.count_requests("slow", "pay_invoice"),
            "a request",
        )
        before = run.query(attempt)
        stop(run)
    wait_until_gone(tmp_path)

    with system(tmp_path, **frequent) as run:
        wait_until(
            lambda: run.count_requests("platform", "lookup_invoice"),
            "a lookup",
        )
        assert run.query(attempt) == before
        assert before[1] == "pending"
        assert run.count_requests("slow", "pay_invoice") == 0
        stop(run)
    wait_until_gone(tmp_path)


def stop(run):
    run.process.send_signal(signal.SIGINT)
    output, _ = run.process.communicate(timeout=2 * LIMIT)
    assert run.process.returncode == 0, output
    assert "Traceback" not in without_lost_ticks(output), output
    return output


def without_lost_ticks(output):
    """Return the output without beat's errors if Valkey timed out.

    On an overloaded machine beat may fail to enqueue a task; its next tick does that.
    """
    lines = output.splitlines()
    beats = [line for line in lines if re.match(r"\S+ beat +\|", line)]
    if not any("Timeout reading from socket" in line for line in beats):
        return output
    return "\n".join(line for line in lines if line not in beats)
