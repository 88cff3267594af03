"""500 wallets at once, and wallets used by many threads."""

import threading
import time

import pytest
import time_machine

from caravel.tests.support.waiting import LIMIT, join, wait_until
from sandbox.common.nostr import Scheme
from sandbox.tests.support.relay_client import connected
from sandbox.tests.support.wallet_client import WalletClient
from sandbox.wallets import Terms
from sandbox.wallets.behaviour import Protocol, pays_after

WALLETS = 500


@pytest.fixture
def wire(relay):
    with connected(relay.url) as wire:
        yield wire


def test_500_wallets_with_a_delay_pay_concurrently(wallets, wire):
    wallets.protocol = Protocol(notifies=False)
    platform = wallets.create("platform")
    payers = wallets.create_many([f"w{n}" for n in range(WALLETS)], balance_msat=1_000)
    for payer in payers:
        payer.behaviour = pays_after(60)
    requests = {}
    for payer in payers:
        client = WalletClient(wire, payer.url, Scheme.NIP44)
        bolt11 = platform.issue(1_000).bolt11
        requests[payer] = client, client.request("pay_invoice", invoice=bolt11)

    for client, request in requests.values():
        client.send(request)
    wait_until(lambda: wallets.schedule.waiting == WALLETS, "a delay of each wallet")
    assert platform.balance_msat == 0
    answered: set[str] = set()
    with time_machine.travel(time.time() + 60):
        while len(answered) < WALLETS:
            message = wire.receive()
            if message[0] == "EVENT" and message[2]["kind"] == 23195:
                answered.update(tag[1] for tag in message[2]["tags"] if tag[0] == "e")

    assert answered == {request.id for _, request in requests.values()}
    assert platform.balance_msat == WALLETS * 1_000
    assert {payer.balance_msat for payer in payers} == {0}


def test_wallets_can_be_created_and_changed_concurrently(relay, wallets):
    start, failures = threading.Barrier(8, timeout=LIMIT), []

    def work(number):
        start.wait()
        try:
            for _ in range(3):
                wallet = wallets.create(f"w{number % 4}", balance_msat=1_000)
                wallet.connect(f"phone {number}")
                wallet.protocol = Protocol(notifies=number % 2 == 0)
                wallet.connection.terms = Terms(budget_msat=number)
                wallet.go_offline()
                wallet.go_online()
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    join(*threads)

    assert failures == []
    assert len(list(wallets)) == 4
    assert wallets.ledger.total() == 4_000
    assert all(len(wallet.connections) == 3 for wallet in wallets)
    wait_until(lambda: relay.subscriptions == 1)
    for wallet in wallets:
        with connected(relay.url) as wire:
            client = WalletClient(wire, wallet.url, Scheme.NIP44)
            assert client.call("get_balance") == {"balance": 1_000}
