"""What a wallet answers over a real relay, in both encryptions."""

import hashlib
import time
from urllib.parse import parse_qs, urlsplit

import bolt11
import pytest

from caravel.nostr import pubkey_of
from caravel.nostr.encryption import Scheme
from sandbox.nostr import running_relay
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets import Protocol, Renewal, Terms, running_wallets

METHODS = (
    "pay_invoice get_info get_balance get_budget make_invoice lookup_invoice "
    "list_transactions"
)


@pytest.fixture(scope="module")
def relay():
    with running_relay() as relay:
        yield relay


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


@pytest.fixture(params=list(Scheme))
def scheme(request):
    return request.param


def test_an_invoice_is_made_paid_and_looked_up(platform, alice, scheme):
    with (
        wallet_client(platform.url, scheme) as ours,
        wallet_client(alice.url, scheme) as hers,
    ):
        made = ours.call("make_invoice", amount=21_000, description="Relay", expiry=900)
        before = ours.call("lookup_invoice", payment_hash=made["payment_hash"])
        paid = hers.call("pay_invoice", invoice=made["invoice"])
        after = ours.call("lookup_invoice", invoice=made["invoice"])

    assert (before["state"], after["state"]) == ("pending", "settled")
    assert "preimage" not in before
    assert "settled_at" not in before
    assert after["preimage"] == paid["preimage"]
    assert abs(after["settled_at"] - time.time()) < 5
    hash = hashlib.sha256(bytes.fromhex(paid["preimage"])).hexdigest()
    assert hash == made["payment_hash"]
    assert (alice.balance_msat, platform.balance_msat) == (79_000, 21_000)
    assert alice.ledger.debits("alice") == [21_000]


def test_the_bolt11_is_real_and_says_what_the_result_says(platform):
    with wallet_client(platform.url) as client:
        made = client.call("make_invoice", amount=1_234, description="é 🚀", expiry=77)
        node = client.call("get_info")["pubkey"]

    decoded = bolt11.decode(made["invoice"])
    assert made["invoice"].startswith("lnbcrt")
    assert decoded.payment_hash == made["payment_hash"]
    assert decoded.amount_msat == made["amount"] == 1_234
    assert decoded.description == made["description"] == "é 🚀"
    assert decoded.expiry == 77
    assert decoded.date == made["created_at"]
    assert decoded.date + 77 == made["expires_at"]
    assert decoded.payee == node


def test_each_wallet_has_a_node_of_its_own(platform, alice):
    payees = {
        bolt11.decode(wallet.issue(1_000).bolt11).payee for wallet in (platform, alice)
    }

    assert len(payees) == 2


def test_an_invoice_may_be_as_small_as_one_msat_and_of_another_network(relay):
    with running_wallets(relay.url, currency="bc") as wallets:
        wallet = wallets.create("main")
        with wallet_client(wallet.url) as client:
            made = client.call("make_invoice", amount=1)
            network = client.call("get_info")["network"]

    assert made["invoice"].startswith("lnbc10p1")
    assert network == "mainnet"


def test_get_info_says_what_the_client_may_call(platform):
    reader = platform.connect("reader", terms=Terms(read_only=True))

    with wallet_client(platform.url) as client:
        full = client.call("get_info")
    with wallet_client(reader.url) as client:
        limited = client.call("get_info")

    assert full["methods"] == METHODS.split()
    assert limited["methods"] == METHODS.split()[1:]
    assert full["notifications"] == ["payment_received", "payment_sent"]
    assert (full["alias"], full["network"]) == ("platform", "regtest")


def test_get_balance_is_in_msat(alice):
    with wallet_client(alice.url) as client:
        assert client.call("get_balance") == {"balance": 100_000}


def test_an_unlimited_client_has_no_budget(alice):
    with wallet_client(alice.url) as client:
        assert client.call("get_budget") == {}


def test_a_budget_is_used_up_and_then_exceeded(platform, alice):
    alice.connection.limit(3_000)
    texts = [platform.issue(2_000).bolt11 for _ in range(2)]

    with wallet_client(alice.url) as client:
        client.call("pay_invoice", invoice=texts[0])
        budget = client.call("get_budget")
        code = client.error("pay_invoice", invoice=texts[1])

    assert budget == {
        "used_budget": 2_000,
        "total_budget": 3_000,
        "renewal_period": "never",
    }
    assert code == "QUOTA_EXCEEDED"
    assert alice.ledger.debits("alice") == [2_000]


def test_each_client_has_a_budget_of_its_own(platform, alice):
    alice.connection.limit(1_000)
    phone = alice.connect("phone", terms=Terms(budget_msat=1_000))

    for url in (alice.url, phone.url):
        with wallet_client(url) as client:
            client.call("pay_invoice", invoice=platform.issue(1_000).bolt11)

    assert alice.ledger.total_debited("alice") == 2_000


def test_too_little_is_refused_and_nothing_is_moved(platform, alice):
    made = platform.issue(100_001)

    with wallet_client(alice.url) as client:
        assert client.error("pay_invoice", invoice=made.bolt11) == (
            "INSUFFICIENT_BALANCE"
        )

    assert alice.balance_msat == 100_000


def test_a_second_payment_is_an_internal_error(platform, alice):
    made = platform.issue(1_000)

    with wallet_client(alice.url) as client:
        client.call("pay_invoice", invoice=made.bolt11)
        assert client.error("pay_invoice", invoice=made.bolt11) == "INTERNAL"

    assert alice.ledger.debits("alice") == [1_000]


def test_a_foreign_invoice_finds_no_route(alice, relay):
    with running_wallets(relay.url) as others:
        foreign = others.create("shop").issue(1_000)

    with wallet_client(alice.url) as client:
        assert client.error("pay_invoice", invoice=foreign.bolt11) == "PAYMENT_FAILED"
        assert client.error("pay_invoice", invoice="lnbcrt1nonsense") == (
            "PAYMENT_FAILED"
        )


def test_the_payer_looks_its_payment_up_too(platform, alice):
    made = platform.issue(1_000)
    alice.pay(made.bolt11)

    with wallet_client(alice.url) as client:
        found = client.call("lookup_invoice", payment_hash=made.payment_hash)

    assert (found["type"], found["state"]) == ("outgoing", "settled")


def test_a_stranger_finds_no_invoice_of_others(platform, alice, wallets):
    made = platform.issue(1_000)

    with wallet_client(alice.url) as client:
        code = client.error("lookup_invoice", payment_hash=made.payment_hash)

    assert code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("make_invoice", {}),
        ("make_invoice", {"amount": 0}),
        ("make_invoice", {"amount": "1000"}),
        ("make_invoice", {"amount": True}),
        ("make_invoice", {"amount": 1_000, "expiry": 0}),
        ("make_invoice", {"amount": 1_000, "description": 7}),
        ("lookup_invoice", {}),
        ("lookup_invoice", {"payment_hash": 7}),
        ("pay_invoice", {"invoice": 7}),
        ("pay_invoice", {}),
        ("list_transactions", {"limit": -1}),
    ],
)
def test_parameters_that_make_no_sense_are_a_bad_request(alice, method, params):
    with wallet_client(alice.url) as client:
        assert client.error(method, **params) == "BAD_REQUEST"


def test_an_unknown_method_is_not_implemented(alice):
    with wallet_client(alice.url) as client:
        assert client.error("pay_keysend", amount=1) == "NOT_IMPLEMENTED"


def test_transactions_are_listed_newest_first(platform, alice):
    issued = [alice.issue(msat) for msat in (1_000, 2_000)]
    platform.ledger.deposit("platform", 9_000)
    platform.pay(issued[1].bolt11)
    alice.pay(platform.issue(3_000).bolt11)

    with wallet_client(alice.url) as client:
        settled = client.call("list_transactions")["transactions"]
        every = client.call("list_transactions", unpaid=True)["transactions"]
        sent = client.call("list_transactions", type="outgoing")["transactions"]
        page = client.call("list_transactions", limit=1, offset=1)["transactions"]
        none = client.call("list_transactions", until=1)["transactions"]

    assert {one["amount"] for one in settled} == {2_000, 3_000}
    assert {one["amount"] for one in every} == {1_000, 2_000, 3_000}
    assert [one["amount"] for one in sent] == [3_000]
    assert page == settled[1:]
    assert none == []


def test_the_url_is_that_of_nip47(alice, relay):
    parts = urlsplit(alice.url)
    query = parse_qs(parts.query, strict_parsing=True)

    assert parts.scheme == "nostr+walletconnect"
    assert parts.hostname == alice.pubkey
    assert query["relay"] == [relay.url]
    assert pubkey_of(query["secret"][0]) == alice.connection.pubkey
    assert "%3A%2F%2F" in alice.url


def test_the_info_event_says_what_the_wallet_speaks(wallets, alice, relay):
    wallets.create("reader", terms=Terms(read_only=True))
    (info,) = relay.stored(13194, alice.pubkey)
    (limited,) = relay.stored(13194, wallets["reader"].pubkey)

    assert info.content == f"{METHODS} notifications"
    assert info.values("encryption") == ["nip44_v2 nip04"]
    assert info.values("notifications") == ["payment_received payment_sent"]
    assert "pay_invoice" not in limited.content


@pytest.mark.parametrize("only", list(Scheme))
def test_a_wallet_speaks_one_encryption_only(alice, relay, only):
    alice.protocol = Protocol(encryption=(only,), notifies=False)

    (info,) = relay.stored(13194, alice.pubkey)
    assert info.values("encryption") == [only]
    assert info.values("notifications") == []
    other = next(scheme for scheme in Scheme if scheme is not only)
    with wallet_client(alice.url, only) as client:
        assert client.call("get_balance")
    with wallet_client(alice.url, other) as client:
        request = client.request("get_balance")
        client.send(request)
        reply = client.next_reply(request)
        client.scheme = only
        assert client.read(reply)["error"]["code"] == "UNSUPPORTED_ENCRYPTION"


def test_a_renewed_budget_says_when_it_renews(alice):
    alice.connection.limit(1_000, Renewal.MONTHLY)

    with wallet_client(alice.url) as client:
        budget = client.call("get_budget")

    assert budget["renewal_period"] == "monthly"
    assert time.time() < budget["renews_at"] < time.time() + 32 * 86_400
