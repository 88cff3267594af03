"""`make run` and Lightning: tenants' wallets pay through the real processes."""

import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import psycopg
import pytest
import requests

from caravel import dev_defaults, embedded
from sandbox.lightning.client import Control
from sandbox.readiness import wait_until
from sandbox.tests.test_run import ROOT, address, environment, running, wait_until_gone

pytestmark = pytest.mark.processes

NPUB = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"
ANOTHER = f"nostr+walletconnect://{'1' * 64}?relay=wss://real.example&secret={'2' * 64}"
#: What an operator may have set for the real thing; the run must not touch it.
REAL = {"ROBOT_WALLET": ANOTHER, "BTC_PRICE_URLS": "https://real.example/{currency}#/a"}
MAKE_TENANT = f"""
from relays.services.lifecycle import create_relay
from tenants.services.tenants import get_or_create_tenant
tenant, is_new = get_or_create_tenant(pubkey="{NPUB}")
if is_new:
    create_relay(tenant_id=tenant.pk, subdomain="first", plan_id="basic")
"""
OFFER = """
from billing.models import InvoiceCollection
from billing.services.payment_page.bolt11 import get_or_issue_bolt11
print(get_or_issue_bolt11(invoice_id=InvoiceCollection.objects.unpaid().get().pk).bolt11)
"""


class Run:
    """A running system as its developer meets it."""

    def __init__(self, var, process, screen):
        self.var, self.process, self.screen = var, process, screen
        self.control = Control(address(screen, "Lightning").rstrip("/"))

    def start(self, *arguments):
        """Start a command of manage.py in another terminal."""
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**environment(self.var), "CARAVEL_QUIET": "true"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def manage(self, *arguments, stdin=""):
        """Return what such a command printed."""
        with self.start(*arguments) as process:
            printed, _ = process.communicate(stdin, timeout=60)
        return printed

    def query(self, sql, *values):
        """Return the first row of a query."""
        url = embedded.addresses(self.var).database_url
        with psycopg.connect(url) as connection:
            return connection.execute(sql, values).fetchone()

    def connect(self, wallet):
        """Connect a wallet of the sandbox to the tenant."""
        url = self.control.get(f"wallets/{wallet}")["url"]
        return self.manage("connect_wallet", NPUB, stdin=f"{url}\n")

    def wait_for(self, status, count):
        """Wait until so many invoices have a status here."""
        found = "SELECT count(*) FROM billing_invoicecollection WHERE status = %s"
        wait_until(
            lambda: self.query(found, status) == (count,),
            seconds=60,
            what=f"{count} invoices that are {status}",
        )

    def let_a_month_pass(self):
        """What the buttons of the sandbox Stripe's page do; all else follows."""
        stripe = address(self.screen, "Stripe").rstrip("/")
        for seconds in (31 * 86_400, 7_200):
            said = {"seconds": seconds}
            requests.post(f"{stripe}/_sandbox/clock/advance", json=said, timeout=60)

    def asked(self, wallet, method):
        found = self.control.get(f"wallets/{wallet}")["requests"]
        return sum(request["method"] == method for request in found)

    def admin(self, page):
        """Return a page of the admin, as its user sees it."""
        login = address(self.screen, "admin")
        given = re.search(r"user (\S+), password (\S+)", self.screen)
        assert given
        with requests.Session() as session:
            session.get(login, timeout=10)
            form = {
                "username": given[1],
                "password": given[2],
                "csrfmiddlewaretoken": session.cookies["csrftoken"],
            }
            session.post(f"{login}login/", data=form, timeout=10)
            return session.get(f"{login}{page}", timeout=10).text


@contextmanager
def system(var, **env):
    with running(var, **env) as (process, screen):
        run = Run(var, process, screen)
        run.manage("shell", "-c", MAKE_TENANT)
        yield run


def test_a_tenants_wallet_pays_and_so_does_a_person(tmp_path):
    with system(tmp_path, BEAT_WATCH_INVOICES="1", **REAL) as run:
        kept = dev_defaults.defaults(tmp_path)
        ours = run.control.get("wallets/platform")["url"]
        assert kept["ROBOT_WALLET"] == ours
        assert kept["BTC_PRICE_URLS"].startswith(run.control.url)
        assert (tmp_path / dev_defaults.RUN_FILE).stat().st_mode & 0o777 == 0o600

        assert run.connect("rich").startswith("Connected rich at 127.0.0.1")
        run.wait_for("paid", 1)
        assert run.control.get("wallets/platform")["balance_msat"] == 7_813_000

        run.connect("refuses")
        run.let_a_month_pass()
        run.wait_for("open", 1)
        refused = "SELECT count(*) FROM lightning_nwcpayment WHERE code = %s"
        wait_until(
            lambda: run.query(refused, "INSUFFICIENT_BALANCE") == (1,),
            seconds=30,
            what="the refusal",
        )

        # Nobody is told of the payment: only beat's watch finds it.
        run.control.post("relay/faults", kind="drop", kinds=[23196, 23197])
        offered = run.manage("shell", "-c", OFFER)
        bolt11 = re.search(r"^lnbcrt\w+$", offered, re.MULTILINE)
        assert bolt11, offered
        run.control.post("wallets/poor/pay", bolt11=bolt11[0])
        run.wait_for("paid", 2)

        page = run.admin("lightning/nwcpayment/")
        assert "refused (nothing was spent)" in page
        assert "paid" in page
        assert "walletconnect" not in page
        screen = end(run)

    assert "secret=" not in run.screen + screen


def test_a_payment_under_way_does_not_hold_the_end_up_and_is_not_sent_again(tmp_path):
    patient = {"BEAT_WATCH_INVOICES": "1", "BEAT_RESOLVE_PAYMENTS": "1"}
    attempt = "SELECT request_event_id, state FROM lightning_nwcpayment"
    with system(tmp_path) as run:
        run.control.post("wallets/slow/behaviour", kind="silent")
        run.connect("slow")
        wait_until(
            lambda: run.asked("slow", "pay_invoice"), seconds=30, what="a request"
        )
        before = run.query(attempt)
        end(run)
    wait_until_gone(tmp_path)

    with system(tmp_path, **patient) as run:
        wait_until(
            lambda: run.asked("platform", "lookup_invoice"),
            seconds=60,
            what="the watch",
        )
        assert run.query(attempt) == before
        assert before[1] == "pending"
        assert run.asked("slow", "pay_invoice") == 0
        end(run)
    wait_until_gone(tmp_path)


def end(run):
    run.process.send_signal(signal.SIGINT)
    output, _ = run.process.communicate(timeout=40)
    assert run.process.returncode == 0, output
    assert "Traceback" not in without_lost_ticks(output), output
    return output


def without_lost_ticks(output):
    """Return what was printed, but for a message that Valkey took too long to take.

    That happens on a machine that has far more to do than it can; beat says so, and the
    next tick does its work.
    """
    lines = output.splitlines()
    beats = [line for line in lines if re.match(r"\S+ beat +\|", line)]
    if not any("Timeout reading from socket" in line for line in beats):
        return output
    return "\n".join(line for line in lines if line not in beats)
