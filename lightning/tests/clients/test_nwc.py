"""The NWC client against the sandbox's wallets, over a real relay."""

import json
import socket
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from caravel.nostr import generate_secret_key, pubkey_of
from caravel.nostr.encryption import Scheme, encrypt
from caravel.nostr.events import sign_event
from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import get_pool
from lightning.clients import nwc
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_replies import (
    REFUSALS,
    Lookup,
    Status,
    read_lookup,
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
from lightning.tests.support.polling import until
from sandbox.wallets import (
    CLAIMS_FALSELY,
    PAYS_WITHOUT_ANSWER,
    STAYS_SILENT,
    CorruptReply,
    Decoy,
    LookupBehaviour,
    PaymentBehaviour,
    Protocol,
    ReplyBehaviour,
    Terms,
    answers_after,
    pays_but_says,
    refuses,
)


def client(wallet, **options):
    return Wallet(parse_nwc_url(wallet.url, private_allowed=True), **options)


def issue(platform, msat=5_000_000):
    issued = client(platform).make_invoice(
        amount_msat=msat, description="Caravel", expiry=900
    )
    return issued.bolt11, issued.payment_hash


def pay(wallet, bolt11, payment_hash):
    paying = client(wallet)
    request = paying.prepare_payment(
        bolt11=bolt11, expires_at=timezone.now() + timedelta(minutes=2)
    )
    return paying.pay_invoice(request, payment_hash=payment_hash)


@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_payment_in_both_encryptions(wallets, platform, alice, scheme):
    for wallet in (platform, alice):
        wallet.protocol = replace(wallet.protocol, encryption=(scheme,))
    bolt11, payment_hash = issue(platform)

    assert client(platform).lookup_invoice(payment_hash).status is Status.UNSETTLED
    preimage = pay(alice, bolt11, payment_hash)

    found = client(platform).lookup_invoice(payment_hash)
    assert (found.status, found.preimage) == (Status.SETTLED, preimage)
    assert found.amount_msat == 5_000_000
    assert abs(found.settled_at - timezone.now()) < timedelta(seconds=5)
    assert wallets.ledger.debits("alice") == [5_000_000]


def test_nip_44_is_used_whenever_it_is_offered(relay, platform, alice):
    client(alice).get_balance()
    alice.protocol = replace(alice.protocol, encryption=(Scheme.NIP04,))
    nwc.clear_scheme_cache()
    client(alice).get_balance()

    first, second = relay.events(nwc.REQUEST)
    assert first.values("encryption") == ["nip44_v2"]
    assert "?iv=" not in first.content
    assert second.values("encryption") == []
    assert "?iv=" in second.content


def test_a_wallet_whose_replies_name_no_client(platform, alice):
    alice.protocol = replace(alice.protocol, names_client=False)

    assert client(alice).get_balance() == 10**9


def test_what_wallets_tell_of_themselves(wallets):
    wallet = wallets.create("erin", balance_msat=7_000, terms=Terms(budget_msat=5_000))
    info = client(wallet).get_info()
    budget = client(wallet).get_budget()

    assert info.alias
    assert "pay_invoice" in info.methods
    assert "payment_received" in info.notifications
    assert budget is not None
    assert (budget.used_msat, budget.total_msat) == (0, 5_000)
    assert client(wallets.create("fay")).get_budget() is None


def test_each_request_expires_and_says_so(relay, alice):
    before = timezone.now().timestamp()
    client(alice).get_balance()

    (event,) = relay.events(nwc.REQUEST)
    (expiration,) = event.values("expiration")
    assert before + 5 < int(expiration) < before + 60
    assert event.values("p") == [alice.pubkey]


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_a_refusal_is_told_apart(wallets, platform, alice, code):
    alice.behaviour = refuses(code)
    bolt11, payment_hash = issue(platform)

    with pytest.raises(WalletRefused) as caught:
        pay(alice, bolt11, payment_hash)

    assert caught.value.nwc_code == code
    assert wallets.ledger.debits("alice") == []


@pytest.mark.parametrize(
    "code", ["INTERNAL", "OTHER", "PAYMENT_FAILED", "NOT_FOUND", "BRAND_NEW", ""]
)
def test_any_other_error_says_nothing_of_the_outcome(wallets, platform, alice, code):
    alice.behaviour = pays_but_says(code)
    bolt11, payment_hash = issue(platform)

    with pytest.raises(WalletFailed) as caught:
        pay(alice, bolt11, payment_hash)

    assert caught.value.nwc_code == code
    assert wallets.ledger.debits("alice") == [5_000_000]


@pytest.mark.parametrize("garbage", list(CorruptReply))
def test_garbage_says_nothing_of_the_outcome(platform, alice, garbage):
    alice.behaviour = PaymentBehaviour(corruption=garbage)
    bolt11, payment_hash = issue(platform)

    with pytest.raises(InvalidWalletReply) as caught:
        pay(alice, bolt11, payment_hash)

    assert caught.value.code == "nwc-reply-invalid"


def test_a_preimage_that_is_made_up_proves_nothing(platform, alice):
    alice.behaviour = CLAIMS_FALSELY
    bolt11, payment_hash = issue(platform)

    with pytest.raises(InvalidWalletReply):
        pay(alice, bolt11, payment_hash)


@pytest.mark.parametrize(
    "behaviour", [STAYS_SILENT, PAYS_WITHOUT_ANSWER, answers_after(30)]
)
def test_silence_says_nothing_of_the_outcome(settings, platform, alice, behaviour):
    settings.NWC_TIMEOUT = 1
    alice.behaviour = behaviour
    bolt11, payment_hash = issue(platform)

    with pytest.raises(NoWalletReply):
        pay(alice, bolt11, payment_hash)


@pytest.mark.parametrize("decoy", list(Decoy))
def test_a_reply_from_elsewhere_is_not_taken(wallets, platform, alice, decoy):
    alice.behaviour = PaymentBehaviour(decoys=(decoy,))
    bolt11, payment_hash = issue(platform)

    assert pay(alice, bolt11, payment_hash)


def test_a_second_reply_changes_nothing(platform, alice):
    alice.behaviour = PaymentBehaviour(copies=2)
    bolt11, payment_hash = issue(platform)

    assert pay(alice, bolt11, payment_hash)
    assert client(alice).get_balance() == 10**9 - 5_000_000


def test_without_a_relay_the_request_is_not_sent(relay, wallets, platform, alice):
    bolt11, payment_hash = issue(platform)
    request = client(alice).prepare_payment(bolt11=bolt11, expires_at=timezone.now())
    relay.go_offline()

    with pytest.raises(RequestNotSent):
        client(alice).pay_invoice(request, payment_hash=payment_hash)
    nwc.clear_scheme_cache()
    with pytest.raises(RequestNotSent):
        client(alice).prepare_payment(bolt11=bolt11, expires_at=timezone.now())


def test_a_relay_that_only_swallows_is_found_out_before_anything_is_sent(
    relay, platform, alice, monkeypatch
):
    monkeypatch.setattr(nwc, "_INFO_TIMEOUT", 0.5)
    bolt11, _ = issue(platform)
    nwc.clear_scheme_cache()
    relay.fault("mute", on="req")

    with pytest.raises(RequestNotSent):
        client(alice).prepare_payment(bolt11=bolt11, expires_at=timezone.now())


def test_a_dead_relay_beside_one_that_knows_no_encryption_stops_nothing(
    relay, platform
):
    """A wallet that publishes no info event understands NIP-04."""
    _, payment_hash = issue(platform)
    nwc.clear_scheme_cache()
    relay.fault("drop", on="req", kinds={nwc.INFO})
    uri = parse_nwc_url(platform.url, private_allowed=True)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = f"ws://127.0.0.1:{closed.getsockname()[1]}"
    both = replace(uri, relays=(dead, *uri.relays))

    found = Wallet(both, private_allowed=True).lookup_invoice(payment_hash)

    assert found.status is Status.UNSETTLED


def test_a_private_relay_is_refused_unless_allowed(relay, alice):
    with pytest.raises(RequestNotSent, match="not on the public internet"):
        client(alice, private_allowed=False).get_info()


# --- lookups


def test_several_lookups_at_once_have_their_own_answers(platform, alice):
    bolt11, paid = issue(platform)
    _, unpaid = issue(platform)
    pay(alice, bolt11, paid)

    found = client(platform).lookup_invoices([paid, unpaid, "00" * 32])

    assert found[paid].status is Status.SETTLED
    assert found[unpaid].status is Status.UNSETTLED
    assert found["00" * 32].nwc_code == "NOT_FOUND"


def test_a_wallet_that_knows_no_state(platform, alice):
    platform.lookup_behaviour = LookupBehaviour(with_state=False)
    bolt11, payment_hash = issue(platform)

    assert client(platform).lookup_invoice(payment_hash).status is Status.UNSETTLED
    pay(alice, bolt11, payment_hash)
    assert client(platform).lookup_invoice(payment_hash).status is Status.SETTLED


def test_an_answer_about_another_invoice(platform):
    platform.lookup_behaviour = LookupBehaviour(wrong_hash=True)
    _, payment_hash = issue(platform)

    with pytest.raises(InvalidWalletReply):
        client(platform).lookup_invoice(payment_hash)


HASH = "ab" * 32


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"state": "settled"}, Status.SETTLED),
        ({"state": "SETTLED", "settled_at": 1_700_000_000}, Status.SETTLED),
        ({"settled_at": 1_700_000_000}, Status.SETTLED),
        ({"state": "", "settled_at": 1_700_000_000}, Status.SETTLED),
        ({"state": None}, Status.UNSETTLED),
        ({"settled_at": 0}, Status.UNSETTLED),
        ({"state": "pending"}, Status.UNSETTLED),
        ({"state": "expired"}, Status.UNSETTLED),
        ({"state": "failed"}, Status.UNSETTLED),
        ({"preimage": "cd" * 32}, Status.UNSETTLED),  # the receiver always has it
        ({"state": "accepted"}, Status.HELD),
        ({"state": "pending", "settled_at": 1_700_000_000}, None),
        ({"state": "brand-new"}, None),
        ({"state": 5}, None),
        # Payer and receiver are one wallet, which tells of the other half.
        ({"state": "settled", "type": "outgoing"}, Status.SETTLED),
        ({"state": "pending", "type": "outgoing"}, None),
        ({"state": "failed", "type": "outgoing"}, None),
        ({"state": "settled", "payment_hash": "cd" * 32}, None),
        ({"state": "settled", "payment_hash": None}, None),
        ({"state": "settled", "amount": "many"}, None),
        ({"state": "settled", "amount": -5}, None),
    ],
)
def test_what_an_answer_about_an_invoice_means(fields, status):
    answer = {"payment_hash": HASH, "type": "incoming", **fields}
    if status is None:
        with pytest.raises(InvalidWalletReply):
            read_lookup(HASH, answer)
    else:
        assert read_lookup(HASH, answer).status is status


def test_a_preimage_is_in_no_print():
    assert "cd" * 32 not in repr(Lookup(Status.SETTLED, preimage="cd" * 32))


# --- notifications


def listen(relay, wallet, then):
    """Have a wallet tell what it receives; return once the relay has been asked."""
    before = relay.subscriptions
    wallet.on_payment_received(then)
    until(lambda: relay.subscriptions > before)


def pay_new(platform, alice):
    """Return the hash of a new invoice that was paid."""
    bolt11, payment_hash = issue(platform)
    pay(alice, bolt11, payment_hash)
    return payment_hash


@pytest.mark.parametrize("scheme", list(Scheme))
def test_a_wallet_tells_what_it_received(relay, platform, alice, scheme):
    platform.protocol = replace(platform.protocol, encryption=(scheme,))
    heard: list[list[str]] = []
    listen(relay, client(platform), heard.append)

    payment_hash = pay_new(platform, alice)

    until(lambda: heard == [[payment_hash]])


def test_what_it_tells_twice_is_passed_on_once(relay, platform, alice):
    """It tells in both encryptions, and the relay tells all again to who comes back."""
    assert len(platform.protocol.encryption) == 2
    heard: list[list[str]] = []
    listen(relay, client(platform), heard.append)
    first = pay_new(platform, alice)
    until(lambda: heard == [[first]])

    before = relay.requests
    relay.drop_connections()
    until(lambda: relay.requests > before)
    second = pay_new(platform, alice)

    until(lambda: len(heard) > 1)
    assert heard == [[first], [second]]


def test_much_that_comes_at_once_is_passed_on_together(relay, platform, alice):
    heard: list[list[str]] = []
    listen(relay, client(platform), heard.append)
    bolt11s = [issue(platform)[0] for _ in range(20)]

    hashes = [alice.pay(bolt11).payment_hash for bolt11 in bolt11s]

    until(lambda: sum(map(len, heard)) == 20)
    assert [one for together in heard for one in together] == hashes
    assert len(heard) < 10


def test_a_hint_that_cannot_be_passed_on_is_not_the_last(
    relay, platform, alice, caplog
):
    heard: list[list[str]] = []

    def fail_once(payment_hashes):
        heard.append(payment_hashes)
        if len(heard) == 1:
            raise RuntimeError("the broker is on fire")

    listen(relay, client(platform), fail_once)
    pay_new(platform, alice)
    until(lambda: heard)

    second = pay_new(platform, alice)

    until(lambda: heard[1:] == [[second]])
    assert "hints_lost" in caplog.text


def test_notifications_of_other_connections_are_not_read(relay, platform, alice):
    other = Wallet(
        replace(
            parse_nwc_url(platform.url, private_allowed=True),
            secret=generate_secret_key(),
        ),
        private_allowed=True,
    )
    heard: list[list[str]] = []
    notices: list[list[str]] = []
    listen(relay, other, heard.append)
    listen(relay, client(platform), notices.append)

    payment_hash = pay_new(platform, alice)

    until(lambda: notices == [[payment_hash]])
    assert heard == []


def tell(wallet, relay, content):
    """Publish what only the wallet could have written."""
    uri, keys = parse_nwc_url(wallet.url, private_allowed=True), wallet.keys
    text = encrypt(Scheme.NIP44, keys.wallet, uri.client_pubkey, content)
    tags = [("p", uri.client_pubkey)]
    event = sign_event(keys.wallet, kind=23197, content=text, tags=tags)
    get_pool().publish([Endpoint(relay.url, private_allowed=True)], event, timeout=5)


def test_a_notification_that_nests_too_deeply_is_not_the_last(relay, platform, alice):
    heard: list[list[str]] = []
    listen(relay, client(platform), heard.append)
    tell(platform, relay, "[" * 60_000)

    payment_hash = pay_new(platform, alice)

    until(lambda: heard == [[payment_hash]])


def test_of_hints_that_nobody_takes_only_so_many_are_kept(relay, platform, monkeypatch):
    monkeypatch.setattr(nwc, "_HINTS_KEPT", 3)
    heard: list[str] = []
    taken, go_on = threading.Event(), threading.Event()

    def then(payment_hashes):
        heard.extend(payment_hashes)
        taken.set()
        assert go_on.wait(20)

    listen(relay, client(platform), then)
    told = [f"{number:064x}" for number in range(20)]
    for payment_hash in told:
        notice = {
            "notification_type": "payment_received",
            "notification": {"payment_hash": payment_hash},
        }
        tell(platform, relay, json.dumps(notice))
        assert taken.wait(20)
    go_on.set()

    until(lambda: len(heard) >= 4)
    assert heard[:4] == told[:4]
    assert len(heard) < 10  # the last may have come when there was room again


# --- what strangers write


def test_an_answer_that_nests_too_deeply_is_none(platform, alice):
    asking = client(alice)
    text = encrypt(
        Scheme.NIP44, alice.keys.wallet, asking.uri.client_pubkey, "[" * 60_000
    )
    answer = sign_event(alice.keys.wallet, kind=23195, content=text)

    with pytest.raises(InvalidWalletReply):
        asking._decrypt(answer)


def test_a_wallets_words_are_cut_and_cleaned(platform, alice):
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


def test_a_preimage_in_a_wallets_words_is_left_out():
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
def test_a_reply_of_another_shape_is_invalid(content):
    with pytest.raises(InvalidWalletReply):
        read_reply("pay_invoice", json.loads(json.dumps(content)))


@pytest.mark.parametrize("said", [{}, {"result_type": ""}, {"result_type": None}])
def test_a_wallet_that_could_not_read_the_request_refuses_it(said):
    error = {"code": "UNSUPPORTED_ENCRYPTION", "message": "no"}

    with pytest.raises(WalletRefused):
        read_reply("pay_invoice", {**said, "error": error})


def test_from_many_threads_over_one_connection(relay, wallets, platform):
    names = [f"tenant-{n}" for n in range(30)]
    created = wallets.create_many(names, balance_msat=10**8)
    before = relay.accepted
    failures = []

    def work(wallet):
        try:
            pay(wallet, *issue(platform, 1_000))
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(wallet,)) for wallet in created]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert relay.accepted - before == 1
    assert all(wallets.ledger.debits(name) == [1_000] for name in names)


def test_a_wrong_secret_a_deleted_connection_and_a_stranger(wallets, alice):
    uri = parse_nwc_url(alice.url, private_allowed=True)
    wrong = Wallet(replace(uri, secret=generate_secret_key()), private_allowed=True)

    with pytest.raises(WalletRefused) as caught:
        wrong.get_info()
    assert caught.value.nwc_code == "UNAUTHORIZED"
    assert pubkey_of(uri.secret) == uri.client_pubkey


def test_protocol_defaults_are_those_of_a_modern_wallet():
    assert Protocol().encryption[0] is Scheme.NIP44
    assert ReplyBehaviour().error is None
