"""Behaviours of a wallet: payments, replies, lookups and invoices."""

import hashlib
import json

import bolt11
import pytest
import time_machine

from caravel.tests.support.waiting import wait_until
from sandbox.common.nostr import Scheme, Unreadable, decrypt
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets.behaviour import (
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
    settles_late,
)

NOW = 1_800_000_000


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


@pytest.fixture
def invoice(platform):
    return platform.issue(1_000)


@pytest.fixture(params=list(Scheme))
def client(alice, request):
    with wallet_client(alice.url, request.param) as client:
        yield client


@pytest.fixture
def nip44_client(alice):
    with wallet_client(alice.url) as client:
        yield client


def send_payment(client, alice, invoice, **options):
    """Send a payment request and return it once the wallet has it."""
    request = client.request("pay_invoice", invoice=invoice.bolt11, **options)
    client.send(request)
    wait_until(lambda: request.id in {request.id for request in alice.requests()})
    return request


def is_paid(alice, invoice):
    paid = alice.ledger.is_settled(invoice.payment_hash)
    assert alice.ledger.debits("alice") == ([invoice.amount_msat] if paid else [])
    return paid


def test_wallet_pays_by_default(client, alice, invoice):
    assert alice.behaviour == PAYS

    preimage = client.call("pay_invoice", invoice=invoice.bolt11)["preimage"]

    assert preimage == invoice.preimage
    assert is_paid(alice, invoice)


def test_pays_after_pays_and_answers_when_the_delay_is_over(
    clock, wallets, nip44_client, alice, invoice
):
    alice.behaviour = pays_after(30)

    request = send_payment(nip44_client, alice, invoice)
    assert nip44_client.earlier() == []
    assert not is_paid(alice, invoice)

    clock.shift(29)
    wallets.schedule.run_due()
    assert wallets.schedule.waiting == 1
    assert nip44_client.earlier() == []
    assert not is_paid(alice, invoice)

    clock.shift(1)
    reply = nip44_client.read(nip44_client.next_reply(request))
    assert reply["result"]["preimage"] == invoice.preimage
    assert is_paid(alice, invoice)


def test_pays_without_answer_pays_and_never_answers(nip44_client, alice, invoice):
    alice.behaviour = PAYS_WITHOUT_ANSWER

    send_payment(nip44_client, alice, invoice)

    wait_until(lambda: is_paid(alice, invoice))
    assert nip44_client.earlier() == []


def test_answers_after_pays_at_once_and_answers_later(
    clock, nip44_client, alice, invoice
):
    alice.behaviour = answers_after(30)

    request = send_payment(nip44_client, alice, invoice)

    wait_until(lambda: is_paid(alice, invoice))
    assert nip44_client.earlier() == []
    clock.shift(30)
    assert nip44_client.read(nip44_client.next_reply(request))["error"] is None


@pytest.mark.parametrize(
    "code", ["INSUFFICIENT_BALANCE", "QUOTA_EXCEEDED", "RATE_LIMITED", "NEW_IN_2031"]
)
def test_refuses_answers_with_any_code_and_pays_nothing(client, alice, invoice, code):
    alice.behaviour = refuses(code)

    assert client.error("pay_invoice", invoice=invoice.bolt11) == code

    assert not is_paid(alice, invoice)


def test_pays_but_says_pays_and_answers_with_an_error(client, alice, invoice):
    alice.behaviour = pays_but_says("INTERNAL")

    assert client.error("pay_invoice", invoice=invoice.bolt11) == "INTERNAL"

    assert is_paid(alice, invoice)


def test_settles_late_answers_with_an_error_and_pays_later(
    clock, nip44_client, alice, invoice
):
    alice.behaviour = settles_late(60)

    assert nip44_client.error("pay_invoice", invoice=invoice.bolt11) == "PAYMENT_FAILED"
    assert not is_paid(alice, invoice)

    clock.shift(60)
    wait_until(lambda: is_paid(alice, invoice))


def test_settles_late_pays_nothing_if_the_invoice_was_paid_meanwhile(
    clock, wallets, nip44_client, alice, invoice
):
    alice.behaviour = settles_late(60)
    nip44_client.error("pay_invoice", invoice=invoice.bolt11)
    wallets.create("bob", balance_msat=5_000).pay(invoice.bolt11)

    clock.shift(60)
    wait_until(lambda: wallets.schedule.waiting == 0)

    assert alice.ledger.debits("alice") == []


def test_run_due_runs_due_actions_at_once(clock, wallets, nip44_client, alice, invoice):
    alice.behaviour = settles_late(60)
    nip44_client.error("pay_invoice", invoice=invoice.bolt11)

    clock.shift(60)
    wallets.schedule.run_due()
    wait_until(lambda: wallets.schedule.waiting == 0)

    assert is_paid(alice, invoice)


def test_stays_silent_neither_pays_nor_answers(nip44_client, alice, invoice):
    alice.behaviour = STAYS_SILENT

    send_payment(nip44_client, alice, invoice)

    assert nip44_client.earlier() == []
    assert not is_paid(alice, invoice)


def test_claims_falsely_answers_with_a_fake_preimage(client, alice, invoice):
    alice.behaviour = CLAIMS_FALSELY

    preimage = client.call("pay_invoice", invoice=invoice.bolt11)["preimage"]

    assert hash_of(preimage) != invoice.payment_hash
    assert not is_paid(alice, invoice)


def test_request_is_handled_by_the_behaviour_at_its_arrival(
    clock, nip44_client, alice, invoice
):
    alice.behaviour = pays_after(30)
    request = send_payment(nip44_client, alice, invoice)

    alice.behaviour = refuses("RATE_LIMITED")
    clock.shift(30)

    assert nip44_client.read(nip44_client.next_reply(request))["error"] is None
    assert is_paid(alice, invoice)


@pytest.mark.parametrize("pays", [0.0, None])
@pytest.mark.parametrize("corruption", list(CorruptReply))
def test_reply_is_corrupt_whether_or_not_the_wallet_pays(
    client, alice, invoice, corruption, pays
):
    alice.behaviour = PaymentBehaviour(pays_after=pays, corruption=corruption)
    request = client.request("pay_invoice", invoice=invoice.bolt11)
    client.send(request)

    reply = client.next_reply(request)

    assert reply.pubkey == alice.pubkey
    assert is_paid(alice, invoice) is (pays == 0.0)
    if corruption is CorruptReply.UNDECRYPTABLE:
        with pytest.raises(Unreadable):
            client.read(reply)
        return
    text = decrypt(client.scheme, client.secret, client.wallet, reply.content)
    if corruption is CorruptReply.NOT_JSON:
        with pytest.raises(ValueError):
            json.loads(text)
        return
    body = json.loads(text)
    if corruption is CorruptReply.NOT_AN_OBJECT:
        assert isinstance(body, list)
    elif corruption is CorruptReply.WRONG_TYPE:
        assert body["result_type"] not in ("pay_invoice", "")
        assert body["result"]["preimage"]
    elif corruption is CorruptReply.NO_RESULT:
        assert body == {"result_type": "pay_invoice"}
    elif corruption is CorruptReply.NO_PREIMAGE:
        assert body["error"] is None
        assert "preimage" not in body["result"]
    else:
        assert corruption is CorruptReply.WRONG_PREIMAGE
        assert hash_of(body["result"]["preimage"]) != invoice.payment_hash


def hash_of(preimage):
    return hashlib.sha256(bytes.fromhex(preimage)).hexdigest()


def test_copies_of_a_reply_are_sent_as_different_events(client, alice, invoice):
    alice.behaviour = PaymentBehaviour(copies=2)
    request = client.request("pay_invoice", invoice=invoice.bolt11)
    client.send(request)

    first, second = (client.next_reply(request) for _ in range(2))

    assert first.id != second.id
    assert client.read(first) == client.read(second)
    assert is_paid(alice, invoice)


def test_decoy_from_a_wrong_key_precedes_the_true_reply(client, alice, invoice):
    alice.behaviour = PaymentBehaviour(decoys=(Decoy.WRONG_KEY,))
    request = client.request("pay_invoice", invoice=invoice.bolt11)
    client.send(request)

    forged, true = (client.next_reply(request) for _ in range(2))

    text = decrypt(client.scheme, client.secret, forged.pubkey, forged.content)
    assert json.loads(text)["error"]["code"] == "INSUFFICIENT_BALANCE"
    assert forged.pubkey != alice.pubkey == true.pubkey
    assert client.read(true)["result"]["preimage"] == invoice.preimage


def test_decoy_about_another_request_precedes_the_true_reply(client, alice, invoice):
    alice.behaviour = PaymentBehaviour(decoys=(Decoy.WRONG_REQUEST,))

    assert client.call("pay_invoice", invoice=invoice.bolt11)

    (other,) = client.earlier()
    assert client.read(other)["error"]["code"] == "INSUFFICIENT_BALANCE"
    assert other.pubkey == alice.pubkey


def test_decoy_before_a_refusal_claims_a_payment(nip44_client, alice, invoice):
    alice.behaviour = PaymentBehaviour(
        pays_after=None, error="QUOTA_EXCEEDED", decoys=(Decoy.WRONG_REQUEST,)
    )

    assert nip44_client.error("pay_invoice", invoice=invoice.bolt11) == "QUOTA_EXCEEDED"

    (other,) = nip44_client.earlier()
    assert nip44_client.read(other)["result"]["preimage"]


def test_replies_have_a_p_tag_unless_names_client_is_false(nip44_client, alice):
    named = nip44_client.request("get_balance")
    nip44_client.send(named)
    assert nip44_client.next_reply(named).tags == (
        ("p", nip44_client.pubkey),
        ("e", named.id),
    )

    alice.protocol = Protocol(names_client=False)

    unnamed = nip44_client.request("get_balance")
    nip44_client.send(unnamed)
    assert nip44_client.next_reply(unnamed).tags == (("e", unnamed.id),)


def test_reply_behaviour_applies_to_other_methods(nip44_client, alice):
    alice.reply_behaviour = ReplyBehaviour(error="RATE_LIMITED")

    assert nip44_client.error("get_balance") == "RATE_LIMITED"


# Faults of the platform's own wallet.


@pytest.fixture
def platform_client(platform):
    with wallet_client(platform.url) as client:
        yield client


@pytest.mark.parametrize("code", ["INTERNAL", "NOT_FOUND", "RATE_LIMITED"])
def test_lookup_can_be_answered_with_an_error(platform_client, platform, invoice, code):
    platform.lookup_behaviour = LookupBehaviour(error=code)

    assert (
        platform_client.error("lookup_invoice", payment_hash=invoice.payment_hash)
        == code
    )


def test_lookup_can_return_a_wrong_hash(platform_client, platform, invoice):
    platform.lookup_behaviour = LookupBehaviour(wrong_hash=True)

    transaction = platform_client.call(
        "lookup_invoice", payment_hash=invoice.payment_hash
    )

    assert transaction["payment_hash"] != invoice.payment_hash
    assert transaction["invoice"] == invoice.bolt11


def test_lookup_can_omit_the_state(platform_client, alice, platform, invoice):
    platform.lookup_behaviour = LookupBehaviour(with_state=False)
    before = platform_client.call("lookup_invoice", payment_hash=invoice.payment_hash)
    alice.pay(invoice.bolt11)

    after = platform_client.call("lookup_invoice", payment_hash=invoice.payment_hash)

    assert "state" not in before
    assert "state" not in after
    assert "settled_at" not in before
    assert after["settled_at"]
    assert after["preimage"] == invoice.preimage


def test_lookup_can_stay_unanswered(platform_client, platform, invoice):
    platform.lookup_behaviour = LookupBehaviour(after=None)

    platform_client.send(
        platform_client.request("lookup_invoice", payment_hash=invoice.payment_hash)
    )

    assert platform_client.earlier() == []


def test_expired_invoice_can_settle_within_the_late_seconds(
    clock, platform_client, platform, alice
):
    invoice = platform.issue(1_000, expiry=60)
    clock.shift(60)
    expired = platform_client.call("lookup_invoice", payment_hash=invoice.payment_hash)

    clock.shift(7_200)
    alice.pay(invoice.bolt11)
    settled = platform_client.call("lookup_invoice", payment_hash=invoice.payment_hash)

    assert expired["state"] == "expired"
    assert settled["state"] == "settled"
    assert settled["settled_at"] == NOW + 7_260


def test_invoice_can_have_another_amount_than_its_result(
    platform_client, platform, alice
):
    platform.invoice_behaviour = InvoiceBehaviour(amount_msat=9_000)

    result = platform_client.call("make_invoice", amount=1_000)
    alice.pay(result["invoice"])

    assert result["amount"] == 1_000
    assert bolt11_of(result).amount_msat == 9_000
    assert alice.ledger.debits("alice") == [9_000]


def test_invoice_can_have_another_expiry_than_its_result(platform_client, platform):
    platform.invoice_behaviour = InvoiceBehaviour(expiry=86_400)

    result = platform_client.call("make_invoice", amount=1_000, expiry=60)

    assert result["expires_at"] == result["created_at"] + 60
    assert bolt11_of(result).expiry == 86_400


def test_invoice_can_have_another_hash_than_its_result(
    platform_client, platform, alice
):
    platform.invoice_behaviour = InvoiceBehaviour(wrong_hash=True)

    result = platform_client.call("make_invoice", amount=1_000)
    alice.pay(result["invoice"])

    paid = bolt11_of(result).payment_hash
    assert result["payment_hash"] != paid
    assert platform.ledger.is_settled(paid)


def test_invoice_can_be_issued_without_an_answer(platform_client, platform):
    platform.invoice_behaviour = InvoiceBehaviour(after=None)

    platform_client.send(platform_client.request("make_invoice", amount=1_000))

    assert platform_client.earlier() == []
    assert [
        invoice.amount_msat for invoice in platform.ledger.issued_by("platform")
    ] == [1_000]


def test_make_invoice_can_be_answered_with_an_error_and_issue_nothing(
    platform_client, platform
):
    platform.invoice_behaviour = InvoiceBehaviour(error="INTERNAL")

    assert platform_client.error("make_invoice", amount=1_000) == "INTERNAL"

    assert platform.ledger.issued_by("platform") == []


def bolt11_of(result):
    return bolt11.decode(result["invoice"])
