"""Tenants' wallets are asked before the next invoice, and their owners told."""

import time
from datetime import timedelta
from unittest.mock import patch

import pytest
import time_machine
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.services.dunning.wallet_check import (
    AHEAD,
    check_wallet_for_next_invoice,
    claim_due_checks,
)
from billing.tasks import check_wallet, check_wallets
from billing.tests.factories import InvoiceCollectionFactory
from lightning.clients import nwc
from lightning.clients.nwc_replies import read_info
from lightning.services.payments import run_payment, start_payment
from lightning.services.wallets import connect_wallet, disconnect_wallet
from lightning.tests.factories import bill_for
from relays.tests.factories import RelayFactory
from sandbox.wallets import Renewal, Terms
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("platform", "rates"),
]

#: What a relay on the basic plan costs at the sandbox's price of $64,000, roughly.
BASIC_MSAT = 7_813_000


@pytest.fixture(autouse=True)
def impatient():
    with patch.object(nwc, "QUICK", 0.5):
        yield


def paid_invoice(wallet, *, ends=AHEAD - timedelta(minutes=1)) -> InvoiceCollection:
    """A tenant's paid invoice, with its period about to end."""
    tenant = TenantFactory(stripe_subscription_id=f"sub_{wallet.name}")
    connect_wallet(pubkey=tenant.pk, nwc_url=wallet.url)
    RelayFactory(tenant=tenant)
    return InvoiceCollectionFactory(
        tenant=tenant,
        stripe_status="paid",
        amount_remaining_cents=0,
        state="closed",
        period_end=timezone.now() + ends,
    )


def check(invoice) -> str:
    sentence = check_wallet_for_next_invoice(invoice_id=invoice.pk)
    invoice.refresh_from_db()
    return sentence


def error_of(invoice) -> str:
    return str(Tenant.objects.get(pk=invoice.tenant_id).nwc_error)


def told() -> list[str]:
    return list(Notice.objects.waiting().values_list("kind", flat=True))


# --- who is asked, and when


def test_a_wallet_is_asked_three_days_before_and_once(alice):
    invoice = paid_invoice(alice, ends=AHEAD + timedelta(minutes=1))
    assert claim_due_checks(now=timezone.now()) == []

    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert claim_due_checks(now=timezone.now()) == [invoice.pk]
        assert check(invoice) == ""
        assert claim_due_checks(now=timezone.now()) == []
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assert claim_due_checks(now=timezone.now()) == []

    assert invoice.wallet_checked_at
    asked = len(alice.requests("get_info"))
    check(invoice)
    assert len(alice.requests("get_info")) == asked


def test_a_message_that_is_lost_is_sent_again_in_an_hour(alice):
    invoice = paid_invoice(alice)
    now = timezone.now()

    assert claim_due_checks(now=now) == [invoice.pk]
    assert claim_due_checks(now=now + timedelta(minutes=59)) == []
    assert claim_due_checks(now=now + timedelta(hours=1)) == [invoice.pk]


def test_only_the_latest_invoice_counts(alice):
    first = paid_invoice(alice)
    latest = InvoiceCollectionFactory(
        tenant=first.tenant, period_end=timezone.now() + timedelta(days=30)
    )

    assert claim_due_checks(now=timezone.now()) == []
    later = timezone.now() + timedelta(days=28)
    assert claim_due_checks(now=later) == [latest.pk]


@pytest.mark.parametrize(
    "columns",
    [
        {"autopay_paused": True},
        {"stripe_subscription_id": None},
        {"nwc_url": ""},
    ],
)
def test_nobody_is_asked_who_would_not_be_charged(alice, columns):
    paid_invoice(alice)
    Tenant.objects.update(**columns)

    assert claim_due_checks(now=timezone.now()) == []


def test_the_beat_enqueues_what_it_claims(
    alice, monkeypatch, django_assert_num_queries
):
    invoice, sent = paid_invoice(alice), []
    monkeypatch.setattr(
        check_wallet, "apply_async", lambda args, *_, **__: sent.append(args[0])
    )

    with django_assert_num_queries(4):
        check_wallets()
    check_wallets()

    assert sent == [invoice.pk]
    check_wallet(invoice.pk)
    invoice.refresh_from_db()
    assert invoice.wallet_checked_at


# --- what is wrong


def test_a_wallet_that_will_pay_is_nothing_to_tell(wallets):
    enough = Terms(budget_msat=2 * BASIC_MSAT)
    invoice = paid_invoice(wallets.create("bob", terms=enough))

    assert check(invoice) == ""

    assert (error_of(invoice), told()) == ("", [])


def test_one_that_may_not_pay_any_more(alice):
    invoice = paid_invoice(alice)
    alice.connection.terms = Terms(read_only=True)

    assert check(invoice) == "This connection may not pay invoices."

    assert error_of(invoice) == "This connection may not pay invoices."
    notice = Notice.objects.get()
    assert (notice.kind, notice.subject) == ("wallet_trouble", invoice.pk)
    assert "This connection may not pay invoices." in notice.text


def test_it_is_told_once(alice):
    invoice = paid_invoice(alice)
    alice.connection.terms = Terms(read_only=True)

    check(invoice)
    InvoiceCollection.objects.update(wallet_checked_at=None)
    check(invoice)

    assert told() == ["wallet_trouble"]


def test_a_connection_that_has_expired(alice):
    invoice = paid_invoice(alice)
    alice.connection.terms = Terms(expires_at=int(time.time()) - 1)

    assert check(invoice) == "This connection has expired."


@pytest.mark.parametrize(("days", "is_trouble"), [(2, True), (4, False)])
def test_a_connection_that_ends_before_the_period_does(
    alice, monkeypatch, days, is_trouble
):
    """Some wallets tell when a connection ends; the sandbox's do not."""
    invoice, true = paid_invoice(alice), read_info
    told_by_wallet = {"expires_at": int(time.time()) + days * 86_400}
    monkeypatch.setattr(
        nwc, "read_info", lambda found: true({**found, **told_by_wallet})
    )

    assert check(invoice).startswith("The connection to it ends on") == is_trouble
    assert told() == (["wallet_trouble"] if is_trouble else [])


@pytest.mark.parametrize(
    ("relays", "budget_msat", "is_trouble"),
    [
        (1, BASIC_MSAT - 100_000, True),
        (1, BASIC_MSAT + 100_000, False),
        (2, BASIC_MSAT + 100_000, True),
    ],
)
def test_a_budget_that_is_too_small(wallets, relays, budget_msat, is_trouble):
    bob = wallets.create("bob", terms=Terms(budget_msat=budget_msat))
    invoice = paid_invoice(bob)
    for _ in range(relays - 1):
        RelayFactory(tenant=invoice.tenant)

    assert check(invoice).startswith("The budget it gives us") == is_trouble
    assert told() == (["wallet_trouble"] if is_trouble else [])


@pytest.mark.parametrize(
    ("renewal", "is_trouble"),
    [(Renewal.NEVER, True), (Renewal.DAILY, False), (Renewal.YEARLY, True)],
)
def test_a_budget_that_is_spent_may_start_anew_in_time(wallets, renewal, is_trouble):
    terms = Terms(budget_msat=2 * BASIC_MSAT, renewal=renewal)
    bob = wallets.create("bob", balance_msat=10**9, terms=terms)
    invoice = paid_invoice(bob)
    spent = start_payment(bill=bill_for(invoice.tenant, amount_cents=900))
    assert run_payment(payment_id=spent.pk).state == "paid"

    assert bool(check(invoice)) == is_trouble


def test_without_a_price_the_budget_is_not_judged(wallets, rates):
    invoice = paid_invoice(wallets.create("bob", terms=Terms(budget_msat=1_000)))
    rates.fault("error")

    assert check(invoice) == ""
    assert invoice.wallet_checked_at


def test_silence_counts_when_there_is_silence_an_hour_later(alice):
    invoice = paid_invoice(alice)
    alice.go_offline()
    now = timezone.now()

    assert claim_due_checks(now=now) == [invoice.pk]
    for _ in range(2):  # a message that came twice is not a second silence
        assert check(invoice) == ""
        assert (invoice.wallet_checked_at, told()) == (None, [])

    with time_machine.travel(now + timedelta(hours=1, seconds=1)):
        assert claim_due_checks(now=timezone.now()) == [invoice.pk]
        assert "does not answer" in check(invoice)
    assert invoice.wallet_checked_at
    assert told() == ["wallet_trouble"]
    assert "does not answer" in error_of(invoice)


def test_a_wallet_that_answers_an_hour_later_is_well(alice):
    invoice = paid_invoice(alice)
    alice.go_offline()
    check(invoice)
    alice.go_online()

    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1)):
        assert check(invoice) == ""

    assert invoice.wallet_checked_at
    assert told() == []


def test_who_has_another_wallet_meanwhile_is_told_nothing(wallets, alice):
    """The wallet is changed while the old one is asked."""
    invoice = paid_invoice(alice)
    alice.connection.terms = Terms(read_only=True)
    bob = wallets.create("bob")
    real = nwc.Wallet.get_info

    def change_then_ask(wallet):
        with patch.object(nwc.Wallet, "get_info", real):
            connect_wallet(pubkey=invoice.tenant_id, nwc_url=bob.url)
            return real(wallet)

    with patch.object(nwc.Wallet, "get_info", change_then_ask):
        check(invoice)

    assert told() == []
    assert error_of(invoice) == ""


def test_who_has_no_wallet_meanwhile_is_not_asked(alice):
    invoice = paid_invoice(alice)
    disconnect_wallet(pubkey=invoice.tenant_id)

    assert check(invoice) == ""
    assert told() == []
