"""Restarts keep URLs, balances, invoices and connections of wallets."""

import sqlite3

import pytest

from caravel.tests.support.waiting import wait_until
from sandbox.common.nostr import is_secret_key, pubkey_of
from sandbox.common.state import UnreadableState
from sandbox.tests.support.wallet_client import wallet_client
from sandbox.wallets import NotPaid, Renewal, Terms, running_wallets
from sandbox.wallets.keys import keys_of


@pytest.fixture
def state(tmp_path):
    return tmp_path / "var" / "wallets.sqlite"


def urls(relay, **options):
    with running_wallets(relay.url, **options) as wallets:
        alice = wallets.create("alice")
        return [alice.url, alice.connect("phone").url, wallets.create("bob").url]


def test_same_seed_gives_the_same_urls(relay):
    assert urls(relay, seed="demo") == urls(relay, seed="demo")
    assert len(set(urls(relay, seed="demo"))) == 3


def test_other_seeds_or_none_give_different_urls(relay):
    wallets = [set(urls(relay, seed=seed)) for seed in ("one", "two", None, None)]

    assert len(set().union(*wallets)) == 12


def test_keys_can_be_derived_before_the_wallets_run(relay):
    keys = keys_of("demo", "alice")

    with running_wallets(relay.url, seed="demo") as wallets:
        alice = wallets.create("alice")
        assert alice.pubkey == pubkey_of(keys.wallet)
        assert alice.url.endswith(f"secret={keys.client}")
    assert all(map(is_secret_key, (keys.wallet, keys.client, keys.node)))
    assert len({keys.wallet, keys.client, keys.node}) == 3


def test_keys_depend_on_the_boundary_between_name_and_label():
    assert keys_of("s", "a", "b").client != keys_of("s", "ab", "").client
    assert keys_of("s", "a").wallet != keys_of("sa", "").wallet


@pytest.mark.parametrize("seed", [None, "demo"])
def test_restart_keeps_balances_invoices_and_urls(relay, state, seed):
    with running_wallets(relay.url, seed=seed, state=state) as wallets:
        alice = wallets.create("alice", balance_msat=9_000)
        platform = wallets.create("platform")
        open_invoice, paid_invoice = (platform.issue(msat) for msat in (1_000, 2_000))
        alice.pay(paid_invoice.bolt11)
        before = alice.url

    with running_wallets(relay.url, seed=seed, state=state) as wallets:
        alice = wallets.create("alice", balance_msat=9_000)
        assert alice.url == before
        assert [wallet.name for wallet in wallets] == ["alice", "platform"]
        with pytest.raises(NotPaid):
            alice.pay(paid_invoice.bolt11)
        with wallet_client(before) as client:
            client.call("pay_invoice", invoice=open_invoice.bolt11)
            assert client.call("get_balance") == {"balance": 6_000}
        assert wallets.ledger.debits("alice") == [2_000, 1_000]


def test_restart_keeps_connections_and_their_terms(relay, state):
    terms = Terms(budget_msat=5_000, renewal=Renewal.DAILY, expires_at=4_000_000_000)
    with running_wallets(relay.url, state=state) as wallets:
        alice = wallets.create("alice", terms=Terms(read_only=True))
        alice.connect("phone", terms=terms)
        deleted = alice.connect("tablet")
        deleted.delete()

    with running_wallets(relay.url, state=state) as wallets:
        alice = wallets["alice"]
        assert [connection.label for connection in alice.connections] == ["1", "phone"]
        assert alice.connection.terms == Terms(read_only=True)
        assert alice.connect("phone").terms == terms
        assert alice.client(deleted.pubkey) is None


def test_request_run_before_a_restart_is_not_run_again(relay, state):
    with running_wallets(relay.url, state=state) as wallets:
        alice = wallets.create("alice", balance_msat=9_000)
        bolt11 = wallets.create("platform").issue(1_000).bolt11
        with wallet_client(alice.url) as client:
            client.call("pay_invoice", invoice=bolt11)

    with running_wallets(relay.url, state=state) as wallets:
        alice = wallets["alice"]
        alice.go_online()
        assert alice.requests() == []


def test_request_stored_during_downtime_is_run_on_go_online(relay, state):
    with running_wallets(relay.url, state=state) as wallets:
        alice = wallets.create("alice", balance_msat=9_000)
        url, bolt11 = alice.url, wallets.create("platform").issue(1_000).bolt11
    with wallet_client(url) as client:
        request = client.request("pay_invoice", invoice=bolt11)
        client.send(request)
        wait_until(lambda: request in relay.stored(23194))

    with running_wallets(relay.url, state=state) as wallets:
        assert wallets["alice"].requests() == []
        wallets["alice"].go_online()
        assert wallets.ledger.debits("alice") == [1_000]


def test_account_without_a_wallet_survives_a_restart(relay, state):
    with running_wallets(relay.url, state=state) as wallets:
        invoice = wallets.create("platform").issue(1_000)
        wallets.ledger.open_account("payer", balance_msat=1_000)
        wallets.ledger.pay("payer", invoice.bolt11)

    with running_wallets(relay.url, state=state) as wallets:
        assert wallets.ledger.is_settled(invoice.payment_hash)
        assert [wallet.name for wallet in wallets] == ["platform"]


def older(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE accounts (name)")
    db.close()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (older, "another version"),
        (lambda path: path.write_text("no database at all" * 99), "cannot be read"),
    ],
)
def test_unreadable_state_is_refused_and_left_unchanged(relay, state, write, message):
    state.parent.mkdir()
    write(state)
    before = state.read_bytes()

    with (
        pytest.raises(UnreadableState, match=message),
        running_wallets(relay.url, state=state),
    ):
        pytest.fail("it must not start")

    assert state.read_bytes() == before
