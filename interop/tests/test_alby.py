"""Caravel's wallet client and the sandbox's wallets, each against Alby's SDK."""

from dataclasses import replace
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from caravel.tests.support.waiting import wait_until
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
from sandbox.common.nostr import Scheme
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
    """Return the encryptions of the events of a kind."""
    contents = [event.content for event in relay.events(kind)]
    return {Scheme.NIP04 if "?iv=" in text else Scheme.NIP44 for text in contents}


@pytest.fixture(params=list(Scheme))
def alby(serve, request):
    """A wallet served by Alby's SDK, for each of the encryptions."""
    schemes = list(Scheme) if request.param is Scheme.NIP44 else [request.param]
    return serve(balance_msat=10**9, schemes=schemes)


def test_alby_wallet_returns_its_info(relay, alby):
    info = client(alby).get_info()

    assert info.alias == "alby"
    assert info.network == "regtest"
    assert {"pay_invoice", "make_invoice", "lookup_invoice"} <= info.methods
    assert info.notifications == frozenset()
    assert client(alby).get_balance() == 10**9
    expected = {alby.schemes[0]}
    assert schemes_of(relay, nwc.REQUEST) == schemes_of(relay, nwc.RESPONSE) == expected


def test_alby_responses_have_no_p_tag(relay, alby):
    client(alby).get_balance()

    (reply,) = relay.events(nwc.RESPONSE)
    assert [name for name, *_ in reply.tags] == ["e"]


def test_alby_wallet_pays_an_invoice(wallets, own_wallet, alby):
    bolt11, payment_hash = issue(own_wallet)

    preimage = pay(alby, bolt11, payment_hash)

    lookup = client(own_wallet).lookup_invoice(payment_hash)
    assert (lookup.status, lookup.preimage) == (Status.SETTLED, preimage)
    assert wallets.ledger.debits("alby") == [5_000_000]
    assert client(alby).get_balance() == 10**9 - 5_000_000


def test_alby_wallet_receives_a_payment(wallets, alice, alby):
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


def test_alby_wallet_answers_several_lookups_at_once(alby):
    hashes = [issue(alby)[1] for _ in range(3)]

    lookups = client(alby).lookup_invoices([*hashes, "00" * 32])

    assert [lookups[each].status for each in hashes] == [Status.UNSETTLED] * 3
    assert lookups["00" * 32].nwc_code == "NOT_FOUND"


def test_alby_wallet_refuses_a_payment_above_its_balance(wallets, own_wallet, alby):
    bolt11, payment_hash = issue(own_wallet, 10**9 + 1_000)

    with pytest.raises(WalletRefused) as caught:
        pay(alby, bolt11, payment_hash)

    assert caught.value.nwc_code == "INSUFFICIENT_BALANCE"
    assert wallets.ledger.debits("alby") == []


def test_alby_wallet_does_not_implement_get_budget(alby):
    with pytest.raises(WalletRefused) as caught:
        client(alby).get_budget()

    assert caught.value.nwc_code == "NOT_IMPLEMENTED"


def test_second_payment_with_alby_wallet_is_a_failure_not_a_refusal(
    wallets, own_wallet, alby
):
    bolt11, payment_hash = issue(own_wallet)
    pay(alby, bolt11, payment_hash)

    with pytest.raises(WalletFailed) as caught:
        pay(alby, bolt11, payment_hash)

    assert caught.value.nwc_code == "INTERNAL"
    assert wallets.ledger.debits("alby") == [5_000_000]


@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_tenant_pays_with_a_connected_alby_wallet(wallets, alby):
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
def test_alby_wallet_as_own_wallet_receives_a_payment(settings, alice, alby):
    settings.ROBOT_WALLETS = [alby.url]
    presented = get_or_issue_invoice(make_payment_request(tenant_with()))

    unpaid = invoice_status.check_invoice(invoice_id=presented.pk, must_answer=True)
    alice.pay(presented.bolt11)
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


def catch_up(alby, *, payments):
    """Wait until the stored requests are run, and a number of payments is reached."""
    # The first reply may come from a stored copy; the second follows all of those.
    client(alby).get_balance()
    client(alby).get_balance()
    wait_until(lambda: len(alby.requests_of("pay_invoice")) >= payments)


def after_expiry():
    """Travel to a time when the request is expired but its invoice is not."""
    return time_machine.travel(timezone.now() + timedelta(minutes=2), tick=True)


@RETURNS_EXPIRED
@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_stored_request_run_again_pays_once(relay, wallets, alby, returns_expired):
    payment_request = make_payment_request(tenant_with(alby))
    payment = run_payment(payment_id=start_payment(payment_request).pk)

    runs = 2 if returns_expired else 1
    with after_expiry():
        relay.drop_connections()
        catch_up(alby, payments=runs)

    assert (
        alby.requests_of("pay_invoice") == [{"invoice": payment.invoice.bolt11}] * runs
    )
    request_ids = [event.id for event in relay.events(nwc.REQUEST)]
    assert request_ids.count(payment.request_event_id) == 1
    assert wallets.ledger.debits("alby") == [payment.invoice.amount_msat]
    payment.refresh_from_db()
    assert (payment.state, payment.code) == (PaymentState.PAID, "")
    with pytest.raises(AlreadySettled):
        start_payment(payment_request)


@RETURNS_EXPIRED
@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_wallet_back_after_expiry_pays_only_if_the_relay_returns_expired_requests(
    settings, wallets, alby, returns_expired
):
    settings.NWC_TIMEOUT = 1
    payment_request = make_payment_request(tenant_with(alby))
    alby.stop()
    payment = run_payment(payment_id=start_payment(payment_request).pk)
    assert (payment.state, payment.code) == (PaymentState.PENDING, "nwc-no-reply")

    with after_expiry():
        alby.start()
        catch_up(alby, payments=1 if returns_expired else 0)
        invoice_status.check_invoice(invoice_id=payment.invoice_id, must_answer=True)

    payment.refresh_from_db()
    expected = PaymentState.PAID if returns_expired else PaymentState.PENDING
    debits = [payment.invoice.amount_msat] if returns_expired else []
    assert payment.state == expected
    assert wallets.ledger.debits("alby") == debits


@RETURNS_EXPIRED
@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_refused_payment_that_the_wallet_makes_later_is_recorded(
    relay, wallets, alby, returns_expired
):
    alby.wallet.pay(wallets.create("bob").issue(10**9).bolt11)
    payment_request = make_payment_request(tenant_with(alby))
    payment = run_payment(payment_id=start_payment(payment_request).pk)
    assert (payment.state, payment.code) == (
        PaymentState.REFUSED,
        "INSUFFICIENT_BALANCE",
    )

    wallets.ledger.deposit("alby", 10**9)
    with after_expiry():
        relay.drop_connections()
        catch_up(alby, payments=2 if returns_expired else 1)
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
    assert wallets.ledger.debits("alby") == [10**9, payment.invoice.amount_msat]


@pytest.mark.django_db
@pytest.mark.usefixtures("prices", "own_wallet")
def test_late_payment_of_a_refused_attempt_is_recorded_as_surplus(relay, wallets, alby):
    alby.wallet.pay(wallets.create("bob").issue(10**9).bolt11)
    payment_request = make_payment_request(tenant_with(alby))
    refused = run_payment(payment_id=start_payment(payment_request).pk)
    wallets.ledger.deposit("alby", 10**9)
    paid = run_payment(payment_id=start_payment(payment_request).pk)
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


@pytest.fixture(params=list(Scheme))
def scheme(request, own_wallet, alice):
    """The only encryption that the sandbox's wallets offer."""
    for wallet in (own_wallet, alice):
        wallet.protocol = replace(wallet.protocol, encryption=(request.param,))
    return request.param


@pytest.fixture
def own_wallet_client(own_wallet, scheme, connect):
    """Alby's client of Caravel's own wallet."""
    return connect(own_wallet.url)


@pytest.fixture
def alice_client(alice, scheme, connect):
    """Alby's client of a tenant's wallet."""
    return connect(alice.url)


def test_sandbox_wallet_returns_its_info_to_alby_client(
    relay, alice, scheme, alice_client
):
    info = alice_client.call("getInfo")

    assert info["alias"] == "alice"
    assert {"pay_invoice", "get_budget"} <= set(info["methods"])
    assert info["notifications"] == ["payment_received", "payment_sent"]
    assert alice_client.call("getBalance") == {"balance": 10**9}
    assert alice_client.call("getBudget") == {}
    alice.connection.limit(5_000, Renewal.NEVER)
    assert alice_client.call("getBudget")["total_budget"] == 5_000
    assert schemes_of(relay, nwc.REQUEST) == schemes_of(relay, nwc.RESPONSE) == {scheme}


def test_alby_client_pays_between_sandbox_wallets(
    wallets, own_wallet_client, alice_client
):
    issued = own_wallet_client.call(
        "makeInvoice", amount=5_000, description="Caravel", expiry=900
    )
    payment_hash = issued["payment_hash"]
    unpaid = own_wallet_client.call("lookupInvoice", payment_hash=payment_hash)
    paid = alice_client.call("payInvoice", invoice=issued["invoice"])
    settled = own_wallet_client.call("lookupInvoice", payment_hash=payment_hash)

    assert (unpaid["state"], settled["state"]) == ("pending", "settled")
    assert settled["preimage"] == paid["preimage"]
    assert wallets.ledger.debits("alice") == [5_000]
    assert wallets.ledger.credits("platform") == [5_000]


def test_sandbox_wallets_notify_alby_clients(own_wallet_client, alice_client):
    issued = own_wallet_client.call("makeInvoice", amount=5_000)
    paid = alice_client.call("payInvoice", invoice=issued["invoice"])

    wait_until(lambda: own_wallet_client.notifications and alice_client.notifications)
    (received,), (sent,) = own_wallet_client.notifications, alice_client.notifications
    assert received["notification_type"] == "payment_received"
    assert sent["notification_type"] == "payment_sent"
    for payment in (received["notification"], sent["notification"]):
        assert payment["payment_hash"] == issued["payment_hash"]
        assert payment["preimage"] == paid["preimage"]


def test_alby_client_gets_the_error_of_a_payment_above_the_balance(
    wallets, own_wallet_client, alice_client
):
    issued = own_wallet_client.call("makeInvoice", amount=10**9 + 1_000)

    with pytest.raises(AlbyError) as caught:
        alice_client.call("payInvoice", invoice=issued["invoice"])

    assert (caught.value.type, caught.value.code) == (
        "Nip47WalletError",
        "INSUFFICIENT_BALANCE",
    )
    assert wallets.ledger.debits("alice") == []


def test_url_printed_by_alby_client_can_be_parsed(alice, connect):
    # The relay is not quoted, and the URL contains the client's public key.
    printed = connect(alice.url).call("getNostrWalletConnectUrl")

    read = parse_nwc_url(printed, private_allowed=True)
    assert read == parse_nwc_url(alice.url, private_allowed=True)
    assert Wallet(read).get_balance() == 10**9
