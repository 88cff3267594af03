"""Differences between wallet services: answers to look-ups, clocks, limits, errors."""

import bolt11
import pytest
import time_machine

from caravel.tests.support.waiting import wait_until
from sandbox.common.nostr import Scheme
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets import Terms
from sandbox.wallets.behaviour import (
    Amounts,
    ErrorField,
    LookupBehaviour,
    Network,
    Protocol,
    Times,
    refuses,
)
from sandbox.wallets.messages import INFO

NOW = 1_800_000_000


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


@pytest.fixture
def client(platform):
    with wallet_client(platform.url) as client:
        yield client


def look_up(client, invoice):
    return client.call("lookup_invoice", payment_hash=invoice.payment_hash)


# --- look-ups


def test_expired_unpaid_invoice_can_have_a_settlement_time_and_no_state(
    clock, client, platform
):
    platform.lookup_behaviour = LookupBehaviour(with_state=False, settles_expired=True)
    invoice = platform.issue(1_000, expiry=60)

    before = look_up(client, invoice)
    clock.shift(60)
    after = look_up(client, invoice)

    assert before.keys() & {"state", "settled_at", "preimage"} == set()
    assert after["settled_at"] == invoice.created_at
    assert after["preimage"] == "00" * 32
    assert "state" not in after


def test_unpaid_invoice_can_have_its_true_preimage(client, platform):
    platform.lookup_behaviour = LookupBehaviour(with_state=False, shows_preimage=True)
    invoice = platform.issue(1_000)

    answer = look_up(client, invoice)

    assert answer["preimage"] == invoice.preimage
    assert "settled_at" not in answer


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (Times.FLOATS, NOW + 0.5),
        (Times.MILLISECONDS, NOW * 1_000),
        (Times.TEXT, "2027-01-15T08:00:00+00:00"),
    ],
)
def test_times_can_be_in_other_notations(
    clock, client, platform, alice, times, expected
):
    platform.lookup_behaviour = LookupBehaviour(times=times)
    invoice = platform.issue(1_000)
    alice.pay(invoice.bolt11)

    answer = look_up(client, invoice)

    assert (answer["settled_at"], answer["created_at"]) == (expected, expected)
    assert type(answer["expires_at"]) is type(expected)


@pytest.mark.parametrize(
    ("amounts", "expected"), [(Amounts.TEXT, "1000"), (Amounts.ABSURD, 1_000_000)]
)
def test_amounts_can_be_in_other_notations(client, platform, amounts, expected):
    platform.lookup_behaviour = LookupBehaviour(amounts=amounts)

    assert look_up(client, platform.issue(1_000))["amount"] == expected


def test_paid_invoice_can_be_answered_as_unpaid(client, platform, alice):
    platform.lookup_behaviour = LookupBehaviour(never_settled=True)
    invoice = platform.issue(1_000)
    alice.pay(invoice.bolt11)

    answer = look_up(client, invoice)

    assert answer["state"] == "pending"
    assert answer.keys() & {"settled_at", "preimage"} == set()
    assert platform.balance_msat == 1_000


def test_failed_payment_can_hide_the_invoice_until_it_is_paid(client, platform, alice):
    """As for two users of one Alby Hub."""
    platform.lookup_behaviour = LookupBehaviour(newest_record=True)
    invoice = platform.issue(1_000)
    before = look_up(client, invoice)
    alice.behaviour = refuses("PAYMENT_FAILED")
    with wallet_client(alice.url) as payer:
        payer.error("pay_invoice", invoice=invoice.bolt11)

    failed = look_up(client, invoice)
    alice.pay(invoice.bolt11)
    paid = look_up(client, invoice)

    assert (before["type"], before["state"]) == ("incoming", "pending")
    assert (failed["type"], failed["state"]) == ("outgoing", "failed")
    assert (paid["type"], paid["state"]) == ("incoming", "settled")


def test_list_of_transactions_knows_as_much_as_the_lookups(client, platform, alice):
    platform.lookup_behaviour = LookupBehaviour(never_settled=True, with_state=False)
    invoice = platform.issue(1_000)
    alice.pay(invoice.bolt11)

    paid = client.call("list_transactions")["transactions"]
    (unpaid,) = client.call("list_transactions", unpaid=True)["transactions"]

    assert paid == []
    assert unpaid.keys() & {"state", "settled_at", "preimage"} == set()


def test_failed_payment_does_not_hide_the_invoice_in_the_list(client, platform, alice):
    platform.lookup_behaviour = LookupBehaviour(newest_record=True)
    invoice = platform.issue(1_000)
    alice.behaviour = refuses("PAYMENT_FAILED")
    with wallet_client(alice.url) as payer:
        payer.error("pay_invoice", invoice=invoice.bolt11)

    listed = client.call("list_transactions", type="incoming", unpaid=True)

    (found,) = listed["transactions"]
    assert (found["payment_hash"], found["state"]) == (invoice.payment_hash, "pending")


# --- the protocol


@pytest.mark.parametrize("skew", [-120, 120])
def test_clock_can_be_wrong(clock, relay, wallets, skew):
    bob = wallets.create("bob", protocol=Protocol(clock_skew=skew))
    with wallet_client(bob.url) as client:
        issued = client.call("make_invoice", amount=1_000, expiry=60)
        request = client.request("get_balance", expires_at=NOW + 100)
        client.send(request)
        wait_until(lambda: relay.events(23194)[-1].id == request.id)
        is_run = skew < 100
        if is_run:
            assert client.next_reply(request).created_at == NOW + skew

    assert bolt11.decode(issued["invoice"]).date == NOW + skew
    (info,) = relay.stored(INFO, author=bob.pubkey)
    assert info.created_at == NOW + skew
    assert len(bob.requests("get_balance")) == is_run


def test_clock_of_notifications_can_be_wrong(clock, relay, wallets, alice):
    bob = wallets.create("bob", protocol=Protocol(clock_skew=-120))

    alice.pay(bob.issue(1_000).bolt11)

    wait_until(lambda: relay.events(23197, author=bob.pubkey))
    (event,) = relay.events(23197, author=bob.pubkey)
    assert event.created_at == NOW - 120


def test_requests_beyond_the_limit_are_refused_for_a_minute(clock, alice):
    alice.protocol = Protocol(requests_per_minute=2)
    with wallet_client(alice.url) as client:
        for _ in range(2):
            client.call("get_balance")
        refused = client.request("get_balance")
        client.send(refused)
        reply = client.next_reply(refused)
        # As coinos: NIP-04 whatever the request used, and without its method.
        client.scheme = Scheme.NIP04
        body = client.read(reply)
        client.scheme = Scheme.NIP44
        clock.shift(60)
        client.call("get_balance")

    assert body["error"]["code"] == "RATE_LIMITED"
    assert body["result_type"] == "rate_limited"
    assert (alice.rate_limited, len(alice.requests())) == (1, 3)


def test_each_client_has_a_limit_of_its_own(alice):
    alice.protocol = Protocol(requests_per_minute=1)
    for connection in (alice.connection, alice.connect("other")):
        with wallet_client(connection.url) as client:
            client.call("get_balance")

    assert alice.rate_limited == 0


def test_connection_without_get_info_may_still_pay(alice, platform):
    terms = Terms(denied=("get_info",))
    connection = alice.connect("payments only", terms=terms)
    with wallet_client(connection.url) as client:
        code = client.error("get_info")
        client.call("pay_invoice", invoice=platform.issue(1_000).bolt11)

    assert code == "RESTRICTED"


def test_info_event_can_be_missing_and_come_back(relay, wallets):
    bob = wallets.create("bob", protocol=Protocol(announces=False))
    assert relay.stored(INFO, author=bob.pubkey) == []

    bob.protocol = Protocol()
    assert len(relay.stored(INFO, author=bob.pubkey)) == 1

    relay.forget(INFO, bob.pubkey)
    assert relay.stored(INFO, author=bob.pubkey) == []


def test_errors_can_have_a_type_instead_of_a_code(alice):
    alice.protocol = Protocol(error_field=ErrorField.TYPE)
    with wallet_client(alice.url) as client:
        request = client.request("lookup_invoice", payment_hash="ab" * 32)
        client.send(request)
        error = client.read(client.next_reply(request))["error"]

    assert error == {"type": "NOT_FOUND", "message": "Invoice not found."}


@pytest.mark.parametrize(
    ("network", "prefix"), [("mainnet", "lnbc1"), ("testnet", "lntb1")]
)
def test_invoices_can_be_of_another_network(wallets, network, prefix):
    bob = wallets.create("bob", protocol=Protocol(network=Network(network)))
    with wallet_client(bob.url) as client:
        invoice = client.call("make_invoice", amount=100_000_000_000)["invoice"]
        info = client.call("get_info")

    assert invoice.startswith(prefix)
    assert info["network"] == network
