"""Calls of the NWC client to the sandbox's wallets."""

from datetime import timedelta

from django.utils import timezone

from caravel.tests.support.waiting import wait_until
from lightning.clients import nwc
from lightning.clients.nwc import Wallet
from lightning.clients.nwc_uri import parse_nwc_url


def client(wallet, **options):
    return Wallet(parse_nwc_url(wallet.url, private_allowed=True), **options)


def issue(own_wallet, msat=5_000_000):
    issued = client(own_wallet).make_invoice(
        amount_msat=msat, description="Caravel", expiry=900
    )
    return issued.bolt11, issued.payment_hash


def pay(wallet, bolt11, payment_hash):
    payer = client(wallet)
    (error,) = nwc.learn_schemes([payer])
    if error:
        raise error
    request = payer.prepare_payment(
        bolt11=bolt11, expires_at=timezone.now() + timedelta(minutes=2)
    )
    return payer.pay_invoice(request, payment_hash=payment_hash)


def reconnect_wallets(relay):
    """Break the wallets' connection to a relay, and wait until they listen again.

    A request that the relay gets meanwhile would be lost.
    """
    accepted, subscriptions = relay.accepted, relay.subscriptions
    relay.drop_connections()
    wait_until(
        lambda: relay.accepted > accepted and relay.subscriptions >= subscriptions,
        "the wallets are back",
    )
