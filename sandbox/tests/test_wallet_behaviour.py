"""Each way in which a wallet pays, answers, or does not."""

import hashlib
import json

import bolt11
import pytest
import time_machine

from caravel.nostr.encryption import Scheme, Unreadable, decrypt
from sandbox.nostr import running_relay
from sandbox.tests.support.relay_client import wait_until
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets import (
    CLAIMS_FALSELY,
    PAYS,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    Decoy,
    InvoiceBehaviour,
    LookupBehaviour,
    PaymentBehaviour,
    Protocol,
    ReplyBehaviour,
    answers_after,
    pays_after,
    pays_but_says,
    refuses,
    running_wallets,
    settles_late,
)

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def relay():
    with running_relay() as relay:
        yield relay


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


@pytest.fixture
def wallets(relay):
    relay.reset()
    with running_wallets(relay.url) as wallets:
        yield wallets


@pytest.fixture
def platform(wallets):
    return wallets.create("platform")


@pytest.fixture
def alice(wallets):
    return wallets.create("alice", balance_msat=100_000)


@pytest.fixture
def bill(platform):
    return platform.issue(1_000)


@pytest.fixture(params=list(Scheme))
def client(alice, request):
    with wallet_client(alice.url, request.param) as client:
        yield client


@pytest.fixture
def plain(alice):
    with wallet_client(alice.url) as client:
        yield client


def sent(client, alice, bill, **options):
    """Send a payment request and return it once the wallet has it."""
    request = client.request("pay_invoice", invoice=bill.bolt11, **options)
    client.send(request)
    wait_until(lambda: request.id in {one.id for one in alice.requests()})
    return request


def is_paid(alice, bill):
    paid = alice.ledger.is_settled(bill.payment_hash)
    assert alice.ledger.debits("alice") == ([bill.amount_msat] if paid else [])
    return paid


def test_a_wallet_pays_by_default(client, alice, bill):
    assert alice.behaviour == PAYS

    preimage = client.call("pay_invoice", invoice=bill.bolt11)["preimage"]

    assert preimage == bill.preimage
    assert is_paid(alice, bill)


def test_it_pays_and_answers_when_the_time_has_come(clock, wallets, plain, alice, bill):
    alice.behaviour = pays_after(30)

    request = sent(plain, alice, bill)
    assert plain.earlier() == []
    assert not is_paid(alice, bill)

    clock.shift(29)
    assert wallets.run_due() == 0
    assert plain.earlier() == []
    assert not is_paid(alice, bill)

    clock.shift(1)
    reply = plain.read(plain.next_reply(request))
    assert reply["result"]["preimage"] == bill.preimage
    assert is_paid(alice, bill)


def test_it_pays_and_never_answers(plain, alice, bill):
    alice.behaviour = PAYS_WITHOUT_ANSWER

    sent(plain, alice, bill)

    wait_until(lambda: is_paid(alice, bill))
    assert plain.earlier() == []


def test_it_pays_at_once_and_answers_later(clock, plain, alice, bill):
    alice.behaviour = answers_after(30)

    request = sent(plain, alice, bill)

    wait_until(lambda: is_paid(alice, bill))
    assert plain.earlier() == []
    clock.shift(30)
    assert plain.read(plain.next_reply(request))["error"] is None


@pytest.mark.parametrize(
    "code", ["INSUFFICIENT_BALANCE", "QUOTA_EXCEEDED", "RATE_LIMITED", "NEW_IN_2031"]
)
def test_it_refuses_with_any_code(client, alice, bill, code):
    alice.behaviour = refuses(code)

    assert client.error("pay_invoice", invoice=bill.bolt11) == code

    assert not is_paid(alice, bill)


def test_it_says_internal_though_it_paid(client, alice, bill):
    alice.behaviour = pays_but_says("INTERNAL")

    assert client.error("pay_invoice", invoice=bill.bolt11) == "INTERNAL"

    assert is_paid(alice, bill)


def test_it_says_failed_and_settles_later(clock, plain, alice, bill):
    alice.behaviour = settles_late(60)

    assert plain.error("pay_invoice", invoice=bill.bolt11) == "PAYMENT_FAILED"
    assert not is_paid(alice, bill)

    clock.shift(60)
    wait_until(lambda: is_paid(alice, bill))


def test_what_settles_late_may_meet_a_paid_invoice(clock, wallets, plain, alice, bill):
    alice.behaviour = settles_late(60)
    plain.error("pay_invoice", invoice=bill.bolt11)
    wallets.create("bob", balance_msat=5_000).pay(bill.bolt11)

    clock.shift(60)
    wait_until(lambda: wallets.schedule.waiting == 0)

    assert alice.ledger.debits("alice") == []


def test_due_things_are_done_at_once_on_request(clock, wallets, plain, alice, bill):
    alice.behaviour = settles_late(60)
    plain.error("pay_invoice", invoice=bill.bolt11)

    clock.shift(60)
    wait_until(lambda: wallets.run_due() == wallets.schedule.waiting == 0)

    assert is_paid(alice, bill)


def test_it_neither_pays_nor_answers(plain, alice, bill):
    alice.behaviour = STAYS_SILENT

    sent(plain, alice, bill)

    assert plain.earlier() == []
    assert not is_paid(alice, bill)


def test_it_lies(client, alice, bill):
    alice.behaviour = CLAIMS_FALSELY

    preimage = client.call("pay_invoice", invoice=bill.bolt11)["preimage"]

    assert hash_of(preimage) != bill.payment_hash
    assert not is_paid(alice, bill)


def test_it_behaves_as_it_did_when_it_was_asked(clock, plain, alice, bill):
    alice.behaviour = pays_after(30)
    request = sent(plain, alice, bill)

    alice.behaviour = refuses("RATE_LIMITED")
    clock.shift(30)

    assert plain.read(plain.next_reply(request))["error"] is None
    assert is_paid(alice, bill)


@pytest.mark.parametrize("pays", [0.0, None])
@pytest.mark.parametrize("garbage", list(CorruptReply))
def test_it_pays_or_not_and_its_reply_is_garbage(client, alice, bill, garbage, pays):
    alice.behaviour = PaymentBehaviour(pays_after=pays, corruption=garbage)
    request = client.request("pay_invoice", invoice=bill.bolt11)
    client.send(request)

    reply = client.next_reply(request)

    assert reply.pubkey == alice.pubkey
    assert is_paid(alice, bill) is (pays == 0.0)
    if garbage is CorruptReply.UNDECRYPTABLE:
        with pytest.raises(Unreadable):
            client.read(reply)
        return
    text = decrypt(client.scheme, client.secret, client.wallet, reply.content)
    if garbage is CorruptReply.NOT_JSON:
        with pytest.raises(ValueError):
            json.loads(text)
        return
    body = json.loads(text)
    if garbage is CorruptReply.NOT_AN_OBJECT:
        assert isinstance(body, list)
    elif garbage is CorruptReply.WRONG_TYPE:
        assert body["result_type"] not in ("pay_invoice", "")
        assert body["result"]["preimage"]
    elif garbage is CorruptReply.NO_RESULT:
        assert body == {"result_type": "pay_invoice"}
    elif garbage is CorruptReply.NO_PREIMAGE:
        assert body["error"] is None
        assert "preimage" not in body["result"]
    else:
        assert garbage is CorruptReply.WRONG_PREIMAGE
        assert hash_of(body["result"]["preimage"]) != bill.payment_hash


def hash_of(preimage):
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest()


def test_replies_come_twice_in_different_events(client, alice, bill):
    alice.behaviour = PaymentBehaviour(copies=2)
    request = client.request("pay_invoice", invoice=bill.bolt11)
    client.send(request)

    first, second = (client.next_reply(request) for _ in range(2))

    assert first.id != second.id
    assert client.read(first) == client.read(second)
    assert is_paid(alice, bill)


def test_a_refusal_from_a_wrong_key_precedes_the_true_reply(client, alice, bill):
    alice.behaviour = PaymentBehaviour(decoys=(Decoy.WRONG_KEY,))
    request = client.request("pay_invoice", invoice=bill.bolt11)
    client.send(request)

    forged, true = (client.next_reply(request) for _ in range(2))

    text = decrypt(client.scheme, client.secret, forged.pubkey, forged.content)
    assert json.loads(text)["error"]["code"] == "INSUFFICIENT_BALANCE"
    assert forged.pubkey != alice.pubkey == true.pubkey
    assert client.read(true)["result"]["preimage"] == bill.preimage


def test_a_refusal_of_another_request_precedes_the_true_reply(client, alice, bill):
    alice.behaviour = PaymentBehaviour(decoys=(Decoy.WRONG_REQUEST,))

    assert client.call("pay_invoice", invoice=bill.bolt11)

    (other,) = client.earlier()
    assert client.read(other)["error"]["code"] == "INSUFFICIENT_BALANCE"
    assert other.pubkey == alice.pubkey


def test_before_a_true_refusal_a_decoy_says_paid(plain, alice, bill):
    alice.behaviour = PaymentBehaviour(
        pays_after=None, error="QUOTA_EXCEEDED", decoys=(Decoy.WRONG_REQUEST,)
    )

    assert plain.error("pay_invoice", invoice=bill.bolt11) == "QUOTA_EXCEEDED"

    (other,) = plain.earlier()
    assert plain.read(other)["result"]["preimage"]


def test_replies_name_the_client_unless_the_service_does_not(plain, alice):
    named = plain.request("get_balance")
    plain.send(named)
    assert plain.next_reply(named).tags == (("p", plain.pubkey), ("e", named.id))

    alice.protocol = Protocol(names_client=False)

    unnamed = plain.request("get_balance")
    plain.send(unnamed)
    assert plain.next_reply(unnamed).tags == (("e", unnamed.id),)


def test_other_methods_are_scripted_too(plain, alice):
    alice.reply_behaviour = ReplyBehaviour(error="RATE_LIMITED")

    assert plain.error("get_balance") == "RATE_LIMITED"


# What our own wallet may do wrong.


@pytest.fixture
def ours(platform):
    with wallet_client(platform.url) as client:
        yield client


@pytest.mark.parametrize("code", ["INTERNAL", "NOT_FOUND", "RATE_LIMITED"])
def test_a_lookup_comes_to_an_error(ours, platform, bill, code):
    platform.lookup_behaviour = LookupBehaviour(error=code)

    assert ours.error("lookup_invoice", payment_hash=bill.payment_hash) == code


def test_a_lookup_tells_another_hash(ours, platform, bill):
    platform.lookup_behaviour = LookupBehaviour(wrong_hash=True)

    found = ours.call("lookup_invoice", payment_hash=bill.payment_hash)

    assert found["payment_hash"] != bill.payment_hash
    assert found["invoice"] == bill.bolt11


def test_a_lookup_has_no_state(ours, alice, platform, bill):
    platform.lookup_behaviour = LookupBehaviour(with_state=False)
    before = ours.call("lookup_invoice", payment_hash=bill.payment_hash)
    alice.pay(bill.bolt11)

    after = ours.call("lookup_invoice", payment_hash=bill.payment_hash)

    assert "state" not in before
    assert "state" not in after
    assert "settled_at" not in before
    assert after["settled_at"]
    assert after["preimage"] == bill.preimage


def test_a_lookup_is_not_answered(ours, platform, bill):
    platform.lookup_behaviour = LookupBehaviour(after=None)

    ours.send(ours.request("lookup_invoice", payment_hash=bill.payment_hash))

    assert ours.earlier() == []


def test_an_unpaid_invoice_expires_and_may_settle_late(clock, ours, platform, alice):
    bill = platform.issue(1_000, expiry=60)
    clock.shift(60)
    expired = ours.call("lookup_invoice", payment_hash=bill.payment_hash)

    clock.shift(7_200)
    alice.pay(bill.bolt11)
    settled = ours.call("lookup_invoice", payment_hash=bill.payment_hash)

    assert expired["state"] == "expired"
    assert settled["state"] == "settled"
    assert settled["settled_at"] == NOW + 7_260


def test_an_invoice_is_made_with_another_amount_than_it_says(ours, platform, alice):
    platform.invoice_behaviour = InvoiceBehaviour(amount_msat=9_000)

    made = ours.call("make_invoice", amount=1_000)
    alice.pay(made["invoice"])

    assert made["amount"] == 1_000
    assert bolt11_of(made).amount_msat == 9_000
    assert alice.ledger.debits("alice") == [9_000]


def test_an_invoice_is_made_with_another_expiry_than_it_says(ours, platform):
    platform.invoice_behaviour = InvoiceBehaviour(expiry=86_400)

    made = ours.call("make_invoice", amount=1_000, expiry=60)

    assert made["expires_at"] == made["created_at"] + 60
    assert bolt11_of(made).expiry == 86_400


def test_an_invoice_is_made_with_another_hash_than_it_says(ours, platform, alice):
    platform.invoice_behaviour = InvoiceBehaviour(wrong_hash=True)

    made = ours.call("make_invoice", amount=1_000)
    alice.pay(made["invoice"])

    paid = bolt11_of(made).payment_hash
    assert made["payment_hash"] != paid
    assert platform.ledger.is_settled(paid)


def test_an_invoice_is_made_and_not_told(ours, platform):
    platform.invoice_behaviour = InvoiceBehaviour(after=None)

    ours.send(ours.request("make_invoice", amount=1_000))

    assert ours.earlier() == []
    assert [one.amount_msat for one in platform.ledger.issued_by("platform")] == [1_000]


def test_an_invoice_is_refused(ours, platform):
    platform.invoice_behaviour = InvoiceBehaviour(error="INTERNAL")

    assert ours.error("make_invoice", amount=1_000) == "INTERNAL"

    assert platform.ledger.issued_by("platform") == []


def bolt11_of(made):
    return bolt11.decode(made["invoice"])
