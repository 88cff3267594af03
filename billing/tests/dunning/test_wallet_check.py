"""Wallet checks before the next invoice, and the notices about problems."""

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
from lightning.services.wallets import connect_wallet, disconnect_wallet
from lightning.tests.factories import make_payment_request
from lightning.tests.support.payments import run_payment, start_payment
from relays.tests.factories import RelayFactory
from sandbox.wallets import Renewal, Terms
from sandbox.wallets.behaviour import ReplyBehaviour
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("own_wallet", "rates"),
]

#: What a relay on the basic plan costs at the sandbox's price of $64,000, roughly.
BASIC_MSAT = 7_813_000


def check_silent(invoice) -> str:
    """Check a wallet that does not answer."""
    with patch.object(nwc, "TIMEOUT", 0.5):
        return check(invoice)


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


def notice_kinds() -> list[str]:
    return list(Notice.objects.waiting().values_list("kind", flat=True))


# --- which wallets are checked, and when


def test_wallet_is_checked_once_three_days_before_the_next_invoice(alice):
    invoice = paid_invoice(alice, ends=AHEAD + timedelta(minutes=1))
    assert claim_due_checks(now=timezone.now()) == []

    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        assert claim_due_checks(now=timezone.now()) == [invoice.pk]
        assert check(invoice) == ""
        assert claim_due_checks(now=timezone.now()) == []
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assert claim_due_checks(now=timezone.now()) == []

    assert invoice.wallet_checked_at
    request_count = len(alice.requests("get_info"))
    check(invoice)
    assert len(alice.requests("get_info")) == request_count


def test_lost_check_is_due_again_after_an_hour(alice):
    invoice = paid_invoice(alice)
    now = timezone.now()

    assert claim_due_checks(now=now) == [invoice.pk]
    assert claim_due_checks(now=now + timedelta(minutes=59)) == []
    assert claim_due_checks(now=now + timedelta(hours=1)) == [invoice.pk]


def test_only_the_latest_invoice_leads_to_a_check(alice):
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
def test_no_check_for_a_wallet_that_would_not_be_charged(alice, columns):
    paid_invoice(alice)
    Tenant.objects.update(**columns)

    assert claim_due_checks(now=timezone.now()) == []


def test_beat_enqueues_the_claimed_checks(
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


# --- problems


def test_no_notice_for_a_wallet_that_can_pay(wallets):
    enough = Terms(budget_msat=2 * BASIC_MSAT)
    invoice = paid_invoice(wallets.create("bob", terms=enough))

    assert check(invoice) == ""

    assert (error_of(invoice), notice_kinds()) == ("", [])


def test_wallet_without_pay_permission_is_a_problem(alice):
    invoice = paid_invoice(alice)
    alice.connection.terms = Terms(read_only=True)

    assert check(invoice) == "This connection may not pay invoices."

    assert error_of(invoice) == "This connection may not pay invoices."
    notice = Notice.objects.get()
    assert (notice.kind, notice.subject) == ("wallet_trouble", invoice.pk)
    assert "This connection may not pay invoices." in notice.text


EVIL = "You have won! Send 1 BTC to evil.example."


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("UNAUTHORIZED", "it does not know its connection"),
        ("INTERNAL", "it has an internal error"),
        (EVIL, "it reports an error that we do not know"),
    ],
)
def test_notice_says_what_a_code_means_and_never_the_wallets_own_words(
    alice, code, meaning
):
    """As NIP-47 defines them: https://github.com/nostr-protocol/nips/blob/master/47.md"""
    invoice = paid_invoice(alice)
    alice.reply_behaviour = ReplyBehaviour(error=code, message=EVIL)

    assert meaning in check(invoice)

    notice = Notice.objects.get()
    for text in (notice.title, notice.text, error_of(invoice)):
        assert "evil" not in text


def test_notice_does_not_have_the_words_of_the_wallets_relay(alice, relay):
    invoice = paid_invoice(alice)
    relay.fault("reject", kinds={23194}, reason=f"blocked: {EVIL}")

    # Twice: at first it may only be offline for a moment.
    check(invoice)
    InvoiceCollection.objects.update(
        wallet_silent_at=timezone.now() - timedelta(hours=2)
    )
    assert "None of its relays can be reached" in check(invoice)

    assert "evil" not in Notice.objects.get().text + error_of(invoice)


def test_wallet_problem_is_notified_once(alice):
    invoice = paid_invoice(alice)
    alice.connection.terms = Terms(read_only=True)

    check(invoice)
    InvoiceCollection.objects.update(wallet_checked_at=None)
    check(invoice)

    assert notice_kinds() == ["wallet_trouble"]


def test_expired_connection_is_a_problem(alice):
    invoice = paid_invoice(alice)
    alice.connection.terms = Terms(expires_at=int(time.time()) - 1)

    assert check(invoice) == "This connection has expired."


@pytest.mark.parametrize(("days", "is_problem"), [(2, True), (4, False)])
def test_connection_that_ends_before_the_next_invoice_is_a_problem(
    alice, monkeypatch, days, is_problem
):
    """Some wallets announce when a connection ends; the sandbox's do not."""
    invoice = paid_invoice(alice)
    expiry = {"expires_at": int(time.time()) + days * 86_400}
    monkeypatch.setattr(
        nwc, "read_info", lambda result: read_info({**result, **expiry})
    )

    assert check(invoice).startswith("The connection to it ends on") == is_problem
    assert notice_kinds() == (["wallet_trouble"] if is_problem else [])


@pytest.mark.parametrize(
    ("relays", "budget_msat", "is_problem"),
    [
        (1, BASIC_MSAT - 100_000, True),
        (1, BASIC_MSAT + 100_000, False),
        (2, BASIC_MSAT + 100_000, True),
    ],
)
def test_budget_below_the_monthly_price_is_a_problem(
    wallets, relays, budget_msat, is_problem
):
    bob = wallets.create("bob", terms=Terms(budget_msat=budget_msat))
    invoice = paid_invoice(bob)
    for _ in range(relays - 1):
        RelayFactory(tenant=invoice.tenant)

    assert check(invoice).startswith("The budget it gives us") == is_problem
    assert notice_kinds() == (["wallet_trouble"] if is_problem else [])


@pytest.mark.parametrize(
    ("renewal", "is_problem"),
    [(Renewal.NEVER, True), (Renewal.DAILY, False), (Renewal.YEARLY, True)],
)
def test_spent_budget_is_a_problem_unless_it_renews_in_time(
    wallets, renewal, is_problem
):
    terms = Terms(budget_msat=2 * BASIC_MSAT, renewal=renewal)
    bob = wallets.create("bob", balance_msat=10**9, terms=terms)
    invoice = paid_invoice(bob)
    spent = start_payment(make_payment_request(invoice.tenant, amount_cents=900))
    assert run_payment(payment_id=spent.pk).state == "paid"

    assert bool(check(invoice)) == is_problem


def test_without_an_exchange_rate_the_budget_is_not_compared(wallets, rates):
    invoice = paid_invoice(wallets.create("bob", terms=Terms(budget_msat=1_000)))
    rates.fault("error")

    assert check(invoice) == ""
    assert invoice.wallet_checked_at


def test_silence_is_a_problem_only_if_it_lasts_an_hour(alice):
    invoice = paid_invoice(alice)
    alice.go_offline()
    now = timezone.now()

    assert claim_due_checks(now=now) == [invoice.pk]
    for _ in range(2):  # a message that came twice is not a second silence
        assert check_silent(invoice) == ""
        assert (invoice.wallet_checked_at, notice_kinds()) == (None, [])

    with time_machine.travel(now + timedelta(hours=1, seconds=1)):
        assert claim_due_checks(now=timezone.now()) == [invoice.pk]
        assert "does not answer" in check_silent(invoice)
    assert invoice.wallet_checked_at
    assert notice_kinds() == ["wallet_trouble"]
    assert "does not answer" in error_of(invoice)


def test_no_problem_when_the_wallet_answers_an_hour_later(alice):
    invoice = paid_invoice(alice)
    alice.go_offline()
    check_silent(invoice)
    alice.go_online()

    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1)):
        assert check(invoice) == ""

    assert invoice.wallet_checked_at
    assert notice_kinds() == []


def test_no_notice_when_the_wallet_is_replaced_during_the_check(wallets, alice):
    """The tenant connects another wallet while the old one is being checked."""
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

    assert notice_kinds() == []
    assert error_of(invoice) == ""


def test_no_check_when_the_wallet_is_disconnected_meanwhile(alice):
    invoice = paid_invoice(alice)
    disconnect_wallet(pubkey=invoice.tenant_id)

    assert check(invoice) == ""
    assert notice_kinds() == []


def test_period_that_ended_days_ago_leads_to_no_check(alice):
    invoice = paid_invoice(alice)
    period_end = invoice.period_end
    assert period_end is not None

    assert claim_due_checks(now=period_end + timedelta(days=2)) == []
    assert claim_due_checks(now=period_end) == [invoice.pk]
