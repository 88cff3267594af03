"""The NWC client against the sandbox's wallets, over a real relay."""

import json
import socket
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.events import sign_event
from caravel.tests.support.waiting import join
from lightning.clients import nwc, nwc_info
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_content import decrypt_content
from lightning.clients.nwc_replies import (
    REFUSALS,
    Lookup,
    Status,
    read_info,
    read_reply,
)
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import (
    InvalidWalletReply,
    NoWalletReply,
    RequestNotSent,
    WalletFailed,
    WalletRefused,
)
from lightning.tests.support.nwc import client, issue, pay
from sandbox.common.nostr import Scheme, encrypt
from sandbox.wallets import Terms
from sandbox.wallets.behaviour import (
    CLAIMS_FALSELY,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    Decoy,
    LookupBehaviour,
    PaymentBehaviour,
    Protocol,
    ReplyBehaviour,
    answers_after,
    pays_but_says,
    refuses,
)
from sandbox.wallets.keys import node_pubkey


@pytest.mark.parametrize("scheme", list(Scheme))
def test_payment_works_in_both_encryption_schemes(wallets, own_wallet, alice, scheme):
    for wallet in (own_wallet, alice):
        wallet.protocol = replace(wallet.protocol, encryption=(scheme,))
    bolt11, payment_hash = issue(own_wallet)

    assert client(own_wallet).lookup_invoice(payment_hash).status is Status.UNSETTLED
    preimage = pay(alice, bolt11, payment_hash)

    lookup = client(own_wallet).lookup_invoice(payment_hash)
    assert (lookup.status, lookup.preimage) == (Status.SETTLED, preimage)
    assert lookup.amount_msat == 5_000_000
    assert abs(lookup.settled_at - timezone.now()) < timedelta(seconds=5)
    assert wallets.ledger.debits("alice") == [5_000_000]


def test_nip_44_is_used_if_offered(relay, own_wallet, alice):
    client(alice).get_balance()
    alice.protocol = replace(alice.protocol, encryption=(Scheme.NIP04,))
    nwc_info.clear_scheme_cache()
    client(alice).get_balance()

    first, second = relay.events(nwc.REQUEST)
    assert first.values("encryption") == ["nip44_v2"]
    assert "?iv=" not in first.content
    assert second.values("encryption") == []
    assert "?iv=" in second.content


def test_reply_without_a_p_tag_is_accepted(own_wallet, alice):
    alice.protocol = replace(alice.protocol, names_client=False)

    assert client(alice).get_balance() == 10**9


def test_get_info_and_get_budget_return_the_terms_of_the_wallet(wallets):
    wallet = wallets.create("erin", balance_msat=7_000, terms=Terms(budget_msat=5_000))
    info = client(wallet).get_info()
    budget = client(wallet).get_budget()

    assert info.alias
    assert "pay_invoice" in info.methods
    assert "payment_received" in info.notifications
    assert budget is not None
    assert (budget.used_msat, budget.total_msat) == (0, 5_000)
    assert client(wallets.create("fay")).get_budget() is None


def test_request_has_an_expiration(relay, alice):
    before = timezone.now().timestamp()
    client(alice).get_balance()

    (event,) = relay.events(nwc.REQUEST)
    (expiration,) = event.values("expiration")
    assert before + 120 + nwc.TIMEOUT <= int(expiration) < before + 240
    assert event.values("p") == [alice.pubkey]


@pytest.mark.parametrize("seconds", [-120, 120])
def test_wallet_whose_clock_is_off_answers_everything(own_wallet, alice, seconds):
    """It ignores requests that are expired by its own clock."""
    for wallet in (own_wallet, alice):
        wallet.protocol = replace(wallet.protocol, clock_skew=seconds)
    bolt11, payment_hash = issue(own_wallet)
    payer = client(alice)
    # Half a minute for a busy machine.
    expires_at = timezone.now() + timedelta(seconds=30)
    request = payer.prepare_payment(bolt11=bolt11, expires_at=expires_at)

    assert client(own_wallet).get_info().methods
    assert payer.pay_invoice(request, payment_hash=payment_hash)
    assert client(own_wallet).lookup_invoice(payment_hash).status is Status.SETTLED


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_refusal_codes_prove_nothing_was_spent(wallets, own_wallet, alice, code):
    alice.behaviour = refuses(code)
    bolt11, payment_hash = issue(own_wallet)

    with pytest.raises(WalletRefused) as caught:
        pay(alice, bolt11, payment_hash)

    assert caught.value.nwc_code == code
    assert wallets.ledger.debits("alice") == []


@pytest.mark.parametrize(
    "code", ["INTERNAL", "OTHER", "PAYMENT_FAILED", "NOT_FOUND", "BRAND_NEW", ""]
)
def test_other_error_codes_leave_the_outcome_unknown(wallets, own_wallet, alice, code):
    alice.behaviour = pays_but_says(code)
    bolt11, payment_hash = issue(own_wallet)

    with pytest.raises(WalletFailed) as caught:
        pay(alice, bolt11, payment_hash)

    assert caught.value.nwc_code == code
    assert wallets.ledger.debits("alice") == [5_000_000]


@pytest.mark.parametrize("corruption", list(CorruptReply))
def test_malformed_reply_leaves_the_outcome_unknown(own_wallet, alice, corruption):
    alice.behaviour = PaymentBehaviour(corruption=corruption)
    bolt11, payment_hash = issue(own_wallet)

    with pytest.raises(InvalidWalletReply) as caught:
        pay(alice, bolt11, payment_hash)

    assert caught.value.code == "nwc-reply-invalid"


def test_wrong_preimage_is_an_invalid_reply(own_wallet, alice):
    alice.behaviour = CLAIMS_FALSELY
    bolt11, payment_hash = issue(own_wallet)

    with pytest.raises(InvalidWalletReply):
        pay(alice, bolt11, payment_hash)


@pytest.mark.parametrize(
    "behaviour", [STAYS_SILENT, PAYS_WITHOUT_ANSWER, answers_after(30)]
)
def test_missing_reply_leaves_the_outcome_unknown(
    settings, own_wallet, alice, behaviour
):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = behaviour
    bolt11, payment_hash = issue(own_wallet)

    with pytest.raises(NoWalletReply):
        pay(alice, bolt11, payment_hash)


@pytest.mark.parametrize("decoy", list(Decoy))
def test_decoy_reply_is_ignored(wallets, own_wallet, alice, decoy):
    alice.behaviour = PaymentBehaviour(decoys=(decoy,))
    bolt11, payment_hash = issue(own_wallet)

    assert pay(alice, bolt11, payment_hash)


def test_second_reply_is_ignored(own_wallet, alice):
    alice.behaviour = PaymentBehaviour(copies=2)
    bolt11, payment_hash = issue(own_wallet)

    assert pay(alice, bolt11, payment_hash)
    assert client(alice).get_balance() == 10**9 - 5_000_000


def test_request_is_not_sent_without_a_relay(relay, wallets, own_wallet, alice):
    bolt11, payment_hash = issue(own_wallet)
    request = client(alice).prepare_payment(bolt11=bolt11, expires_at=timezone.now())
    relay.go_offline()

    with pytest.raises(RequestNotSent):
        client(alice).pay_invoice(request, payment_hash=payment_hash)
    nwc_info.clear_scheme_cache()
    with pytest.raises(RequestNotSent):
        client(alice).prepare_payment(bolt11=bolt11, expires_at=timezone.now())


def test_mute_relay_is_detected_before_anything_is_sent(
    relay, own_wallet, alice, monkeypatch
):
    monkeypatch.setattr(nwc_info, "_TIMEOUT", 0.5)
    bolt11, _ = issue(own_wallet)
    nwc_info.clear_scheme_cache()
    relay.fault("mute", on="req")

    with pytest.raises(RequestNotSent):
        client(alice).prepare_payment(bolt11=bolt11, expires_at=timezone.now())


def test_lookup_works_with_one_dead_relay_and_no_info_event(relay, own_wallet):
    """A wallet that publishes no info event understands NIP-04."""
    _, payment_hash = issue(own_wallet)
    nwc_info.clear_scheme_cache()
    relay.fault("drop", on="req", kinds={nwc_info.INFO})
    uri = parse_nwc_url(own_wallet.url, private_allowed=True)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"ws://127.0.0.1:{closed.getsockname()[1]}"
    both = replace(uri, relays=(dead, *uri.relays))

    lookup = Wallet(both, private_allowed=True).lookup_invoice(payment_hash)

    assert lookup.status is Status.UNSETTLED


def test_private_relay_is_refused_unless_allowed(relay, alice):
    with pytest.raises(RequestNotSent, match="does not answer"):
        client(alice, private_allowed=False).get_info()


# --- lookups


def test_concurrent_lookups_get_their_own_answers(own_wallet, alice):
    bolt11, paid = issue(own_wallet)
    _, unpaid = issue(own_wallet)
    pay(alice, bolt11, paid)

    answers = client(own_wallet).lookup_invoices([paid, unpaid, "00" * 32])

    assert answers[paid].status is Status.SETTLED
    assert answers[unpaid].status is Status.UNSETTLED
    assert answers["00" * 32].nwc_code == "NOT_FOUND"


def test_settled_at_and_preimage_decide_for_a_wallet_without_state(own_wallet, alice):
    own_wallet.lookup_behaviour = LookupBehaviour(with_state=False)
    bolt11, payment_hash = issue(own_wallet)

    assert client(own_wallet).lookup_invoice(payment_hash).status is Status.UNSETTLED
    pay(alice, bolt11, payment_hash)
    assert client(own_wallet).lookup_invoice(payment_hash).status is Status.SETTLED


def test_lookup_answer_about_another_invoice_is_invalid(own_wallet):
    own_wallet.lookup_behaviour = LookupBehaviour(wrong_hash=True)
    _, payment_hash = issue(own_wallet)

    with pytest.raises(InvalidWalletReply):
        client(own_wallet).lookup_invoice(payment_hash)


def test_preimage_is_not_in_repr():
    assert "cd" * 32 not in repr(Lookup(Status.SETTLED, preimage="cd" * 32))


# --- malformed and hostile replies


def test_deeply_nested_reply_is_invalid(own_wallet, alice):
    wallet = client(alice)
    text = encrypt(
        Scheme.NIP44, alice.keys.wallet, wallet.uri.client_pubkey, "[" * 60_000
    )
    answer = sign_event(alice.keys.wallet, kind=23195, content=text)

    with pytest.raises(InvalidWalletReply):
        decrypt_content(wallet.uri, answer)


def test_text_of_a_wallet_is_truncated_and_sanitized(own_wallet, alice):
    url = alice.url
    error = {
        "code": "INSUFFICIENT_BALANCE",
        "message": f"no\x07\nfunds {url} " + "x" * 900,
    }

    with pytest.raises(WalletRefused) as caught:
        read_reply("pay_invoice", {"result_type": "pay_invoice", "error": error})

    assert len(caught.value.message) <= 240
    assert caught.value.message.startswith("no? funds")
    assert url[-64:] not in caught.value.message


def test_preimage_in_text_of_a_wallet_is_removed():
    error = {"code": "OTHER", "message": f"paid already with {'ab' * 32} at noon"}

    with pytest.raises(WalletFailed) as caught:
        read_reply("pay_invoice", {"result_type": "pay_invoice", "error": error})

    assert caught.value.message == "paid already with … at noon"


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"result_type": "pay_invoice"},
        {"result_type": "pay_invoice", "result": []},
        {"result_type": "pay_invoice", "error": "no"},
        {"result_type": "pay_invoice", "error": ["RESTRICTED"], "result": {}},
        {"result_type": "get_info", "result": {"preimage": "ab" * 32}},
        {"result_type": None, "result": {}},
        {"result_type": ["pay_invoice"], "error": {"code": "RESTRICTED"}},
        {"result_type": "get_info", "error": {"code": "RESTRICTED"}},
    ],
)
def test_reply_of_another_shape_is_invalid(content):
    with pytest.raises(InvalidWalletReply):
        read_reply("pay_invoice", json.loads(json.dumps(content)))


@pytest.mark.parametrize("reply", [{}, {"result_type": ""}, {"result_type": None}])
def test_error_without_result_type_is_a_refusal(reply):
    error = {"code": "UNSUPPORTED_ENCRYPTION", "message": "no"}

    with pytest.raises(WalletRefused):
        read_reply("pay_invoice", {**reply, "error": error})


@pytest.mark.parametrize("method", ["pay_invoice", "lookup_invoice"])
def test_rate_limit_of_coinos_is_a_refusal_of_any_method(method):
    """It limits before it reads: `nwc rate limit` in lib/nwc.ts of coinos-server."""
    error = {"code": "RATE_LIMITED", "message": "Too many requests."}

    with pytest.raises(WalletRefused) as caught:
        read_reply(method, {"result_type": "rate_limited", "error": error})

    assert caught.value.nwc_code == "RATE_LIMITED"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"type": "QUOTA_EXCEEDED", "message": "no"}, "QUOTA_EXCEEDED"),
        ({"code": "RESTRICTED", "type": "INTERNAL"}, "RESTRICTED"),
        ({"code": None, "type": "EXPIRED"}, "EXPIRED"),
    ],
)
def test_error_code_may_be_called_type(error, code):
    """As in applesauce: packages/wallet-connect/src/wallet-service.ts."""
    with pytest.raises(WalletRefused) as caught:
        read_reply("pay_invoice", {"result_type": "pay_invoice", "error": error})

    assert caught.value.nwc_code == code


def test_info_has_the_public_key_of_the_wallets_node(own_wallet):
    assert client(own_wallet).get_info().pubkey == node_pubkey(own_wallet.keys)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("02" + "AB" * 32, "02" + "ab" * 32),
        ("ab" * 32, ""),  # a Nostr key, as coinos gives
        ("00" * 33, ""),
        ("…", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_only_a_node_pubkey_is_taken_for_one(given, read):
    assert read_info({"pubkey": given}).pubkey == read


def test_many_threads_share_one_connection(relay, wallets, own_wallet):
    names = [f"tenant-{n}" for n in range(30)]
    created = wallets.create_many(names, balance_msat=10**8)
    before = relay.accepted
    failures = []

    def work(wallet):
        try:
            pay(wallet, *issue(own_wallet, 1_000))
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(wallet,)) for wallet in created]
    for thread in threads:
        thread.start()
    for thread in threads:
        join(thread)

    assert failures == []
    assert relay.accepted - before == 1
    assert all(wallets.ledger.debits(name) == [1_000] for name in names)


def test_wrong_secret_is_refused_as_unauthorized(wallets, alice):
    uri = parse_nwc_url(alice.url, private_allowed=True)
    wrong = Wallet(replace(uri, secret=generate_secret_key()), private_allowed=True)

    with pytest.raises(WalletRefused) as caught:
        wrong.get_info()
    assert caught.value.nwc_code == "UNAUTHORIZED"
    assert pubkey_of(uri.secret) == uri.client_pubkey


def test_sandbox_wallet_defaults_are_modern():
    assert Protocol().encryption[0] is Scheme.NIP44
    assert ReplyBehaviour().error is None
