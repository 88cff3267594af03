"""A relay that wants AUTH to read as well as to write: payments, info, notifications.

As nostr-sdk's LocalRelay (modes READ and BOTH) and @nostr-relay/core do.
"""

from dataclasses import replace

import pytest

from caravel.tests.support.waiting import wait_until
from lightning.models import NwcPayment
from lightning.services import own_wallets
from lightning.tests.support.connecting import connect_and_pay
from sandbox.common.nostr import Scheme

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]


@pytest.fixture
def relay(relay):
    relay.change_settings(requires_auth=True)
    return relay


def test_wallet_that_reads_only_nip44_pays(alice):
    """Its info event says so, and has to be found."""
    alice.protocol = replace(alice.protocol, encryption=(Scheme.NIP44,))

    payment = connect_and_pay(alice.url)

    assert payment.state == NwcPayment.State.PAID
    assert alice.unreadable == []


def test_notification_of_a_payment_is_heard(relay, own_wallet, alice):
    heard: list[str] = []
    subscriptions = relay.subscriptions
    (wallet,) = own_wallets.wallets()
    wallet.on_payment_received(heard.extend)
    wait_until(lambda: relay.subscriptions > subscriptions)
    invoice = own_wallet.issue(21_000)

    alice.pay(invoice.bolt11)

    wait_until(lambda: heard)
    assert heard == [invoice.payment_hash]
