"""The methods of NIP-47 over a real relay, in both encryptions."""

import hashlib
import time
from urllib.parse import parse_qs, urlsplit

import bolt11
import pytest
import time_machine

from sandbox.common.nostr import Scheme, pubkey_of
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets import Renewal, Terms, running_wallets
from sandbox.wallets.behaviour import ListBehaviour, Protocol

METHODS = (
    "pay_invoice get_info get_balance get_budget make_invoice lookup_invoice"
    " list_transactions"
)


@pytest.fixture(params=list(Scheme))
def scheme(request):
    return request.param


def test_invoice_can_be_made_paid_and_looked_up(platform, alice, scheme):
    with (
        wallet_client(platform.url, scheme) as platform_client,
        wallet_client(alice.url, scheme) as alice_client,
    ):
        issued = platform_client.call(
            "make_invoice", amount=21_000, description="Relay", expiry=900
        )
        before = platform_client.call(
            "lookup_invoice", payment_hash=issued["payment_hash"]
        )
        earliest = int(time.time())
        paid = alice_client.call("pay_invoice", invoice=issued["invoice"])
        after = platform_client.call("lookup_invoice", invoice=issued["invoice"])

    assert (before["state"], after["state"]) == ("pending", "settled")
    assert "preimage" not in before
    assert "settled_at" not in before
    assert after["preimage"] == paid["preimage"]
    assert earliest <= after["settled_at"] <= time.time()
    hash = hashlib.sha256(bytes.fromhex(paid["preimage"])).hexdigest()
    assert hash == issued["payment_hash"]
    assert (alice.balance_msat, platform.balance_msat) == (79_000, 21_000)
    assert alice.ledger.debits("alice") == [21_000]


def test_bolt11_contains_the_values_of_the_result(platform):
    with wallet_client(platform.url) as client:
        issued = client.call(
            "make_invoice", amount=1_234, description="é 🚀", expiry=77
        )
        node = client.call("get_info")["pubkey"]

    decoded = bolt11.decode(issued["invoice"])
    assert issued["invoice"].startswith("lnbcrt")
    assert decoded.payment_hash == issued["payment_hash"]
    assert decoded.amount_msat == issued["amount"] == 1_234
    assert decoded.description == issued["description"] == "é 🚀"
    assert decoded.expiry == 77
    assert decoded.date == issued["created_at"]
    assert decoded.date + 77 == issued["expires_at"]
    assert decoded.payee == node


def test_each_wallet_has_its_own_node_key(platform, alice):
    payees = {
        bolt11.decode(wallet.issue(1_000).bolt11).payee for wallet in (platform, alice)
    }

    assert len(payees) == 2


def test_get_info_lists_the_methods_of_the_connection(platform):
    reader = platform.connect("reader", terms=Terms(read_only=True))

    with wallet_client(platform.url) as client:
        full = client.call("get_info")
    with wallet_client(reader.url) as client:
        limited = client.call("get_info")

    assert full["methods"] == METHODS.split()
    assert limited["methods"] == METHODS.split()[1:]
    assert full["notifications"] == ["payment_received", "payment_sent"]
    assert (full["alias"], full["network"]) == ("platform", "regtest")


def test_get_balance_returns_msat(alice):
    with wallet_client(alice.url) as client:
        assert client.call("get_balance") == {"balance": 100_000}


def test_get_budget_is_empty_without_a_budget(alice):
    with wallet_client(alice.url) as client:
        assert client.call("get_budget") == {}


def test_payment_above_the_budget_is_refused_with_quota_exceeded(platform, alice):
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


def test_each_connection_has_its_own_budget(platform, alice):
    alice.connection.limit(1_000)
    phone = alice.connect("phone", terms=Terms(budget_msat=1_000))

    for url in (alice.url, phone.url):
        with wallet_client(url) as client:
            client.call("pay_invoice", invoice=platform.issue(1_000).bolt11)

    assert sum(alice.ledger.debits("alice")) == 2_000


def test_payment_above_the_balance_is_refused(platform, alice):
    issued = platform.issue(100_001)

    with wallet_client(alice.url) as client:
        assert client.error("pay_invoice", invoice=issued.bolt11) == (
            "INSUFFICIENT_BALANCE"
        )

    assert alice.balance_msat == 100_000


def test_second_payment_of_an_invoice_answers_internal(platform, alice):
    issued = platform.issue(1_000)

    with wallet_client(alice.url) as client:
        client.call("pay_invoice", invoice=issued.bolt11)
        assert client.error("pay_invoice", invoice=issued.bolt11) == "INTERNAL"

    assert alice.ledger.debits("alice") == [1_000]


def test_unknown_invoice_answers_payment_failed(alice, relay):
    with running_wallets(relay.url) as others:
        foreign = others.create("shop").issue(1_000)

    with wallet_client(alice.url) as client:
        assert client.error("pay_invoice", invoice=foreign.bolt11) == "PAYMENT_FAILED"
        assert client.error("pay_invoice", invoice="lnbcrt1nonsense") == (
            "PAYMENT_FAILED"
        )


def test_payer_can_look_up_its_payment(platform, alice):
    issued = platform.issue(1_000)
    alice.pay(issued.bolt11)

    with wallet_client(alice.url) as client:
        transaction = client.call("lookup_invoice", payment_hash=issued.payment_hash)

    assert (transaction["type"], transaction["state"]) == ("outgoing", "settled")


def test_lookup_does_not_find_invoices_of_other_wallets(platform, alice, wallets):
    issued = platform.issue(1_000)

    with wallet_client(alice.url) as client:
        code = client.error("lookup_invoice", payment_hash=issued.payment_hash)

    assert code == "NOT_FOUND"


NOW = 1_800_000_000


@pytest.fixture
def listed(platform, alice, wallets):
    """Four invoices of the platform, a minute apart; hashes, oldest first.

    Alice pays the second at once and the first an hour later. The platform also pays
    one of alice's.
    """
    with time_machine.travel(NOW, tick=False) as clock:
        hashes = []
        for number in range(4):
            clock.move_to(NOW + 60 * number)
            issued = platform.issue(1_000)
            hashes.append(issued.payment_hash)
            if number == 1:
                alice.pay(issued.bolt11)
        platform.pay(alice.issue(500).bolt11)
        clock.shift(3_600)
        alice.pay(wallets.ledger.invoice(payment_hash=hashes[0]).bolt11)
        yield hashes


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"unpaid": True}, [3, 2, 1, 0]),
        ({}, [1, 0]),
        ({"unpaid": True, "from": NOW + 60}, [3, 2, 1]),
        ({"unpaid": True, "until": NOW + 60}, [1, 0]),
        ({"unpaid": True, "limit": 2}, [3, 2]),
        ({"unpaid": True, "limit": 2, "offset": 3}, [0]),
    ],
)
def test_list_transactions_returns_the_selected_page_newest_first(
    platform, listed, params, expected
):
    with wallet_client(platform.url) as client:
        page = client.call("list_transactions", type="incoming", **params)

    found = [entry["payment_hash"] for entry in page["transactions"]]
    assert found == [listed[number] for number in expected]


def test_list_transactions_returns_both_types_unless_one_is_named(platform, listed):
    with wallet_client(platform.url) as client:
        page = client.call("list_transactions")
        outgoing = client.call("list_transactions", type="outgoing")
        (wrong,) = {client.error("list_transactions", type="sideways")}

    types = [entry["type"] for entry in page["transactions"]]
    assert types == ["outgoing", "incoming", "incoming"]
    assert [entry["amount"] for entry in outgoing["transactions"]] == [500]
    assert wrong == "BAD_REQUEST"


def test_list_transactions_by_update_goes_by_the_time_of_settlement(platform, listed):
    platform.list_behaviour = ListBehaviour(by_update=True)

    with wallet_client(platform.url) as client:
        page = client.call("list_transactions", type="incoming", unpaid=True)
        early = client.call(
            "list_transactions", type="incoming", unpaid=True, until=NOW + 120
        )

    first, *others = (entry["payment_hash"] for entry in page["transactions"])
    assert first == listed[0]
    assert others == [listed[3], listed[2], listed[1]]
    assert len(early["transactions"]) == 2


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
    ],
)
def test_invalid_parameters_answer_bad_request(alice, method, params):
    with wallet_client(alice.url) as client:
        assert client.error(method, **params) == "BAD_REQUEST"


def test_unknown_method_answers_not_implemented(alice):
    with wallet_client(alice.url) as client:
        assert client.error("pay_keysend", amount=1) == "NOT_IMPLEMENTED"


def test_connection_url_follows_nip47(alice, relay):
    parts = urlsplit(alice.url)
    query = parse_qs(parts.query, strict_parsing=True)

    assert parts.scheme == "nostr+walletconnect"
    assert parts.hostname == alice.pubkey
    assert query["relay"] == [relay.url]
    assert pubkey_of(query["secret"][0]) == alice.connection.pubkey
    assert "%3A%2F%2F" in alice.url


def test_info_event_lists_methods_and_encryptions(wallets, alice, relay):
    wallets.create("reader", terms=Terms(read_only=True))
    (info,) = relay.stored(13194, alice.pubkey)
    (limited,) = relay.stored(13194, wallets["reader"].pubkey)

    assert info.content == f"{METHODS} notifications"
    assert info.values("encryption") == ["nip44_v2 nip04"]
    assert info.values("notifications") == ["payment_received payment_sent"]
    assert "pay_invoice" not in limited.content


@pytest.mark.parametrize("only", list(Scheme))
def test_wallet_with_one_encryption_refuses_the_other(alice, relay, only):
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


def test_get_budget_returns_the_renewal_time(alice):
    alice.connection.limit(1_000, Renewal.MONTHLY)

    with wallet_client(alice.url) as client:
        budget = client.call("get_budget")

    assert budget["renewal_period"] == "monthly"
    assert time.time() < budget["renews_at"] < time.time() + 32 * 86_400
