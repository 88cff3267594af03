"""Caravel's services with foreign wallets, also with requests that come late.

A library that serves wallets may run each request that the relay still has, also an
expired one.
"""

from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from caravel.tests.support.waiting import wait_until
from interop.tests.support.counterparts import SERVICES
from lightning.clients import nwc
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import AlreadySettled
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status
from lightning.services.wallets import connect_wallet
from lightning.tests.factories import make_payment_request, tenant_with
from lightning.tests.support.payments import (
    get_or_issue_invoice,
    run_payment,
    start_payment,
)
from sandbox.common.nostr import Scheme

pytestmark = [
    pytest.mark.interop,
    pytest.mark.counterparts(SERVICES),
    pytest.mark.django_db,
    pytest.mark.usefixtures("prices"),
]

InvoiceState, PaymentState = LightningInvoice.State, NwcPayment.State


@pytest.fixture(params=list(Scheme))
def foreign(serve, request):
    """A wallet served by a foreign library, for each of the encryptions."""
    is_default = request.param is Scheme.NIP44
    return serve(schemes=list(Scheme) if is_default else [request.param])


def test_tenant_pays_with_a_connected_wallet(wallets, foreign):
    tenant = tenant_with()
    check = connect_wallet(pubkey=tenant.pk, nwc_url=foreign.url)
    payment = start_payment(make_payment_request(tenant))

    paid = run_payment(payment_id=payment.pk)

    assert (check.alias, check.budget) == ("alice", None)
    assert paid.state == PaymentState.PAID
    assert wallets.ledger.debits("alice") == [paid.invoice.amount_msat]
    assert wallets.ledger.credits("platform")[-1] == paid.invoice.amount_msat


def test_own_wallet_receives_a_payment(settings, bob, foreign):
    settings.ROBOT_WALLETS = [foreign.url]
    presented = get_or_issue_invoice(make_payment_request(tenant_with()))

    unpaid = invoice_status.check_invoice(invoice_id=presented.pk, must_answer=True)
    bob.pay(presented.bolt11)
    paid = invoice_status.check_invoice(invoice_id=presented.pk, must_answer=True)

    assert unpaid.state == InvoiceState.OPEN
    assert paid.state == InvoiceState.SETTLED
    assert paid.received_msat == presented.amount_msat
    assert paid.preimage


@pytest.fixture
def returns_expired(relay, request):
    """Whether the relay returns expired requests."""
    relay.change_settings(honours_expiration=not request.param)
    return request.param


RETURNS_EXPIRED = pytest.mark.parametrize(
    "returns_expired",
    [False, True],
    ids=["expired-withheld", "expired-returned"],
    indirect=True,
)


def catch_up(foreign, *, payments):
    """Wait until the stored requests are run, and a number of payments is reached."""
    client = Wallet(parse_nwc_url(foreign.url, private_allowed=True))
    # The first reply may come from a stored copy; the second follows all of those.
    client.get_balance()
    client.get_balance()
    wait_until(lambda: len(foreign.requests_of("pay_invoice")) >= payments)


def restart(foreign):
    """Restart the service, which then has forgotten the requests that it ran."""
    foreign.stop()
    foreign.start()


def after_expiry():
    """Travel to a time when the request is expired but its invoice is not."""
    return time_machine.travel(timezone.now() + timedelta(minutes=5), tick=True)


@RETURNS_EXPIRED
def test_stored_request_run_again_pays_once(relay, wallets, foreign, returns_expired):
    payment_request = make_payment_request(tenant_with(foreign))
    payment = run_payment(payment_id=start_payment(payment_request).pk)

    runs = 2 if returns_expired else 1
    with after_expiry():
        restart(foreign)
        catch_up(foreign, payments=runs)

    assert (
        foreign.requests_of("pay_invoice")
        == [{"invoice": payment.invoice.bolt11}] * runs
    )
    request_ids = [event.id for event in relay.events(nwc.REQUEST)]
    assert request_ids.count(payment.request_event_id) == 1
    assert wallets.ledger.debits("alice") == [payment.invoice.amount_msat]
    payment.refresh_from_db()
    assert (payment.state, payment.code) == (PaymentState.PAID, "")
    with pytest.raises(AlreadySettled):
        start_payment(payment_request)


@RETURNS_EXPIRED
def test_wallet_back_after_expiry_pays_only_if_the_relay_returns_expired_requests(
    settings, wallets, foreign, returns_expired
):
    settings.NWC_TIMEOUT = 1
    payment_request = make_payment_request(tenant_with(foreign))
    foreign.stop()
    payment = run_payment(payment_id=start_payment(payment_request).pk)
    assert (payment.state, payment.code) == (PaymentState.PENDING, "nwc-no-reply")

    with after_expiry():
        foreign.start()
        catch_up(foreign, payments=1 if returns_expired else 0)
        invoice_status.check_invoice(invoice_id=payment.invoice_id, must_answer=True)

    payment.refresh_from_db()
    expected = PaymentState.PAID if returns_expired else PaymentState.PENDING
    debits = [payment.invoice.amount_msat] if returns_expired else []
    assert payment.state == expected
    assert wallets.ledger.debits("alice") == debits


@RETURNS_EXPIRED
def test_refused_payment_that_the_wallet_makes_later_is_recorded(
    relay, wallets, bob, foreign, returns_expired
):
    foreign.wallet.pay(bob.issue(10**9).bolt11)
    payment_request = make_payment_request(tenant_with(foreign))
    payment = run_payment(payment_id=start_payment(payment_request).pk)
    assert (payment.state, payment.code) == (
        PaymentState.REFUSED,
        "INSUFFICIENT_BALANCE",
    )

    wallets.ledger.deposit("alice", 10**9)
    with after_expiry():
        restart(foreign)
        catch_up(foreign, payments=2 if returns_expired else 1)
        invoice_status.check_invoice(invoice_id=payment.invoice_id, must_answer=True)

    payment.refresh_from_db()
    if returns_expired:
        assert payment.state == PaymentState.PAID
        with pytest.raises(AlreadySettled):
            start_payment(payment_request)
    else:
        assert payment.state == PaymentState.REFUSED
        again = run_payment(payment_id=start_payment(payment_request).pk)
        assert again.state == PaymentState.PAID
    assert wallets.ledger.debits("alice") == [10**9, payment.invoice.amount_msat]


def test_late_payment_of_a_refused_attempt_is_recorded_as_surplus(
    relay, wallets, bob, foreign
):
    foreign.wallet.pay(bob.issue(10**9).bolt11)
    payment_request = make_payment_request(tenant_with(foreign))
    refused = run_payment(payment_id=start_payment(payment_request).pk)
    wallets.ledger.deposit("alice", 10**9)
    paid = run_payment(payment_id=start_payment(payment_request).pk)
    assert (refused.state, paid.state) == (PaymentState.REFUSED, PaymentState.PAID)

    restart(foreign)
    catch_up(foreign, payments=4)
    surplus = invoice_status.check_invoice(
        invoice_id=refused.invoice_id, must_answer=True
    )

    assert surplus.state == InvoiceState.SETTLED
    assert surplus.received_msat == refused.invoice.amount_msat
    refused.refresh_from_db()
    assert refused.state == PaymentState.PAID
    first, second = refused.invoice.amount_msat, paid.invoice.amount_msat
    assert sorted(wallets.ledger.debits("alice")) == sorted([10**9, first, second])
