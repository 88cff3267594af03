"""Caravel's client of wallets and the sandbox's wallets, each with Alby's SDK."""

from dataclasses import replace
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from caravel.nostr.encryption import Scheme
from interop.tests.support.alby import AlbyError
from lightning.clients import nwc
from lightning.clients.bolt11 import decode
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_replies import Status
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import AlreadySettled, WalletFailed, WalletRefused
from lightning.models import LightningInvoice, NwcPayment
from lightning.services import invoice_status
from lightning.services.payments import run_payment
from lightning.services.wallets import connect_wallet
from lightning.tests.factories import make_payment_request, tenant_with
from lightning.tests.support.payments import get_or_issue_invoice, start_payment
from lightning.tests.support.polling import until
from sandbox.wallets import Renewal

pytestmark = pytest.mark.interop

InvoiceState, PaymentState = LightningInvoice.State, NwcPayment.State


def client(wallet):
    return Wallet(parse_nwc_url(wallet.url, private_allowed=True))


def issue(own_wallet, msat=5_000_000):
    issued = client(own_wallet).make_invoice(
        amount_msat=msat, description="Caravel", expiry=900
    )
    return issued.bolt11, issued.payment_hash


def pay(wallet, bolt11, payment_hash):
    paying = client(wallet)
    request = paying.prepare_payment(
        bolt11=bolt11, expires_at=timezone.now() + timedelta(minutes=2)
    )
    return paying.pay_invoice(request, payment_hash=payment_hash)


def schemes_of(relay, kind):
    """Return how what was sent of a kind was encrypted."""
    contents = [event.content for event in relay.events(kind)]
    return {Scheme.NIP04 if "?iv=" in text else Scheme.NIP44 for text in contents}


@pytest.fixture(params=list(Scheme))
def alby(serve, request):
    """A wallet that Alby's SDK serves, and that is asked in one of the encryptions."""
    schemes = list(Scheme) if request.param is Scheme.NIP44 else [request.param]
    return serve(balance_msat=10**9, schemes=schemes)


# --- our client, their wallet service


def test_their_wallet_tells_of_itself(relay, alby):
    info = client(alby).get_info()

    assert info.alias == "alby"
    assert info.network == "regtest"
    assert {"pay_invoice", "make_invoice", "lookup_invoice"} <= info.methods
    assert info.notifications == frozenset()
    assert client(alby).get_balance() == 10**9
    expected = {alby.schemes[0]}
    assert schemes_of(relay, nwc.REQUEST) == schemes_of(relay, nwc.RESPONSE) == expected


def test_their_replies_name_no_client(relay, alby):
    client(alby).get_balance()

    (reply,) = relay.events(nwc.RESPONSE)
    assert [name for name, *_ in reply.tags] == ["e"]


def test_their_wallet_pays(wallets, own_wallet, alby):
    bolt11, payment_hash = issue(own_wallet)

    preimage = pay(alby, bolt11, payment_hash)

    found = client(own_wallet).lookup_invoice(payment_hash)
    assert (found.status, found.preimage) == (Status.SETTLED, preimage)
    assert wallets.ledger.debits("alby") == [5_000_000]
    assert client(alby).get_balance() == 10**9 - 5_000_000


def test_their_wallet_is_paid(wallets, alice, alby):
    issued = client(alby).make_invoice(
        amount_msat=7_000, description="Caravel", expiry=900
    )
    decoded = decode(issued.bolt11)
    before = client(alby).lookup_invoice(issued.payment_hash)
    preimage = pay(alice, issued.bolt11, issued.payment_hash)
    after = client(alby).lookup_invoice(issued.payment_hash)

    assert decoded.payment_hash == issued.payment_hash
    assert decoded.amount_msat == 7_000
    assert decoded.expires_at - decoded.created_at == timedelta(seconds=900)
    assert before.status is Status.UNSETTLED
    assert (after.status, after.amount_msat) == (Status.SETTLED, 7_000)
    assert after.preimage == preimage
    assert wallets.ledger.credits("alby") == [10**9, 7_000]


def test_several_lookups_at_once(alby):
    hashes = [issue(alby)[1] for _ in range(3)]

    found = client(alby).lookup_invoices([*hashes, "00" * 32])

    assert [found[each].status for each in hashes] == [Status.UNSETTLED] * 3
    assert found["00" * 32].nwc_code == "NOT_FOUND"


def test_their_wallet_is_too_poor(wallets, own_wallet, alby):
    bolt11, payment_hash = issue(own_wallet, 10**9 + 1_000)

    with pytest.raises(WalletRefused) as caught:
        pay(alby, bolt11, payment_hash)

    assert caught.value.nwc_code == "INSUFFICIENT_BALANCE"
    assert wallets.ledger.debits("alby") == []


def test_their_wallet_has_no_budgets(alby):
    with pytest.raises(WalletRefused) as caught:
        client(alby).get_budget()

    assert caught.value.nwc_code == "NOT_IMPLEMENTED"


def test_paying_twice_is_no_refusal(wallets, own_wallet, alby):
    bolt11, payment_hash = issue(own_wallet)
    pay(alby, bolt11, payment_hash)

    with pytest.raises(WalletFailed) as caught:
        pay(alby, bolt11, payment_hash)

    assert caught.value.nwc_code == "INTERNAL"
    assert wallets.ledger.debits("alby") == [5_000_000]


# --- their wallet service as a tenant's wallet, and as ours


@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_a_tenant_connects_their_wallet_and_pays(wallets, alby):
    tenant = tenant_with()
    check = connect_wallet(pubkey=tenant.pk, nwc_url=alby.url)
    payment = start_payment(make_payment_request(tenant))

    paid = run_payment(payment_id=payment.pk)

    assert (check.alias, check.budget) == ("alby", None)
    assert paid.state == PaymentState.PAID
    assert wallets.ledger.debits("alby") == [paid.invoice.amount_msat]
    assert wallets.ledger.credits("platform")[-1] == paid.invoice.amount_msat


@pytest.mark.django_db
@pytest.mark.usefixtures("prices")
def test_their_wallet_receives_for_us(settings, alice, alby):
    settings.ROBOT_WALLETS = [alby.url]
    shown = get_or_issue_invoice(make_payment_request(tenant_with()))

    open_one = invoice_status.check_invoice(invoice_id=shown.pk, must_answer=True)
    alice.pay(shown.bolt11)
    paid = invoice_status.check_invoice(invoice_id=shown.pk, must_answer=True)

    assert open_one.state == InvoiceState.OPEN
    assert paid.state == InvoiceState.SETTLED
    assert paid.received_msat == shown.amount_msat
    assert paid.preimage


# --- old requests on a relay that stores them: their service runs them all again


@pytest.fixture
def hears(relay, request):
    """Whether the relay gives out requests that have expired."""
    relay.change_settings(honours_expiration=not request.param)
    return request.param


HEARS = pytest.mark.parametrize(
    "hears", [False, True], ids=["expired-withheld", "expired-heard"], indirect=True
)


def catch_up(alby, *, payments):
    """Wait until it has run what was stored, and by then so many payments in all."""
    # The first may itself be a stored one by then; the second comes after all those.
    client(alby).get_balance()
    client(alby).get_balance()
    until(lambda: len(alby.asked("pay_invoice")) >= payments)


def past_the_request():
    """Travel to where a request has expired, and what it was to pay has not."""
    return time_machine.travel(timezone.now() + timedelta(minutes=2), tick=True)


@HEARS
@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_a_request_that_is_run_again_pays_once(relay, wallets, alby, hears):
    bill = make_payment_request(tenant_with(alby))
    payment = run_payment(payment_id=start_payment(bill).pk)

    runs = 2 if hears else 1
    with past_the_request():
        relay.drop_connections()
        catch_up(alby, payments=runs)

    assert alby.asked("pay_invoice") == [{"invoice": payment.invoice.bolt11}] * runs
    sent = [event.id for event in relay.events(nwc.REQUEST)]
    assert sent.count(payment.request_event_id) == 1
    assert wallets.ledger.debits("alby") == [payment.invoice.amount_msat]
    payment.refresh_from_db()
    assert (payment.state, payment.code) == (PaymentState.PAID, "")
    with pytest.raises(AlreadySettled):
        start_payment(bill)


@HEARS
@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_a_wallet_that_is_back_too_late(settings, wallets, alby, hears):
    settings.NWC_TIMEOUT = 1
    bill = make_payment_request(tenant_with(alby))
    alby.stop()
    payment = run_payment(payment_id=start_payment(bill).pk)
    assert (payment.state, payment.code) == (PaymentState.PENDING, "nwc-no-reply")

    with past_the_request():
        alby.start()
        catch_up(alby, payments=1 if hears else 0)
        invoice_status.check_invoice(invoice_id=payment.invoice_id, must_answer=True)

    payment.refresh_from_db()
    expected = PaymentState.PAID if hears else PaymentState.PENDING
    debits = [payment.invoice.amount_msat] if hears else []
    assert payment.state == expected
    assert wallets.ledger.debits("alby") == debits


@HEARS
@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_a_refusal_that_the_wallet_goes_back_on(relay, wallets, alby, hears):
    alby.wallet.pay(wallets.create("bob").issue(10**9).bolt11)
    bill = make_payment_request(tenant_with(alby))
    payment = run_payment(payment_id=start_payment(bill).pk)
    assert (payment.state, payment.code) == (
        PaymentState.REFUSED,
        "INSUFFICIENT_BALANCE",
    )

    wallets.ledger.deposit("alby", 10**9)
    with past_the_request():
        relay.drop_connections()
        catch_up(alby, payments=2 if hears else 1)
        invoice_status.check_invoice(invoice_id=payment.invoice_id, must_answer=True)

    payment.refresh_from_db()
    if hears:
        assert payment.state == PaymentState.PAID
        with pytest.raises(AlreadySettled):
            start_payment(bill)
    else:
        assert payment.state == PaymentState.REFUSED
        again = run_payment(payment_id=start_payment(bill).pk)
        assert again.state == PaymentState.PAID
    assert wallets.ledger.debits("alby") == [10**9, payment.invoice.amount_msat]


@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_what_it_pays_beside_the_next_attempt_is_seen(relay, wallets, alby):
    alby.wallet.pay(wallets.create("bob").issue(10**9).bolt11)
    bill = make_payment_request(tenant_with(alby))
    refused = run_payment(payment_id=start_payment(bill).pk)
    wallets.ledger.deposit("alby", 10**9)
    paid = run_payment(payment_id=start_payment(bill).pk)
    assert (refused.state, paid.state) == (PaymentState.REFUSED, PaymentState.PAID)

    relay.drop_connections()
    catch_up(alby, payments=4)
    surplus = invoice_status.check_invoice(
        invoice_id=refused.invoice_id, must_answer=True
    )

    assert surplus.state == InvoiceState.SETTLED
    assert surplus.received_msat == refused.invoice.amount_msat
    refused.refresh_from_db()
    assert refused.state == PaymentState.PAID
    first, second = refused.invoice.amount_msat, paid.invoice.amount_msat
    assert sorted(wallets.ledger.debits("alby")) == sorted([10**9, first, second])


# --- their client, our wallets


@pytest.fixture(params=list(Scheme))
def scheme(request, own_wallet, alice):
    """The one encryption that our wallets offer."""
    for wallet in (own_wallet, alice):
        wallet.protocol = replace(wallet.protocol, encryption=(request.param,))
    return request.param


@pytest.fixture
def ours(own_wallet, scheme, connect):
    """Their client of the wallet that receives for us."""
    return connect(own_wallet.url)


@pytest.fixture
def hers(alice, scheme, connect):
    """Their client of a tenant's wallet."""
    return connect(alice.url)


def test_our_wallet_tells_of_itself(relay, alice, scheme, hers):
    info = hers.call("getInfo")

    assert info["alias"] == "alice"
    assert {"pay_invoice", "get_budget"} <= set(info["methods"])
    assert info["notifications"] == ["payment_received", "payment_sent"]
    assert hers.call("getBalance") == {"balance": 10**9}
    assert hers.call("getBudget") == {}
    alice.connection.limit(5_000, Renewal.NEVER)
    assert hers.call("getBudget")["total_budget"] == 5_000
    assert schemes_of(relay, nwc.REQUEST) == schemes_of(relay, nwc.RESPONSE) == {scheme}


def test_our_wallet_pays_and_is_paid(wallets, ours, hers):
    made = ours.call("makeInvoice", amount=5_000, description="Caravel", expiry=900)
    asked = {"payment_hash": made["payment_hash"]}
    unpaid = ours.call("lookupInvoice", **asked)
    paid = hers.call("payInvoice", invoice=made["invoice"])
    found = ours.call("lookupInvoice", **asked)

    assert (unpaid["state"], found["state"]) == ("pending", "settled")
    assert found["preimage"] == paid["preimage"]
    assert wallets.ledger.debits("alice") == [5_000]
    assert wallets.ledger.credits("platform") == [5_000]


def test_our_wallet_notifies(ours, hers):
    made = ours.call("makeInvoice", amount=5_000)
    paid = hers.call("payInvoice", invoice=made["invoice"])

    until(lambda: ours.notified and hers.notified)
    (received,), (sent,) = ours.notified, hers.notified
    assert received["notification_type"] == "payment_received"
    assert sent["notification_type"] == "payment_sent"
    for told in (received["notification"], sent["notification"]):
        assert told["payment_hash"] == made["payment_hash"]
        assert told["preimage"] == paid["preimage"]


def test_our_wallet_is_too_poor(wallets, ours, hers):
    made = ours.call("makeInvoice", amount=10**9 + 1_000)

    with pytest.raises(AlbyError) as caught:
        hers.call("payInvoice", invoice=made["invoice"])

    assert (caught.value.type, caught.value.code) == (
        "Nip47WalletError",
        "INSUFFICIENT_BALANCE",
    )
    assert wallets.ledger.debits("alice") == []


def test_the_url_that_their_client_prints_is_one_of_ours(alice, connect):
    # Its relay is not quoted, and it names the client's public key too.
    printed = connect(alice.url).call("getNostrWalletConnectUrl")

    read = parse_nwc_url(printed, private_allowed=True)
    assert read == parse_nwc_url(alice.url, private_allowed=True)
    assert Wallet(read).get_balance() == 10**9
