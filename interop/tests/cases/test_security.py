"""Cases: foreign keys, forged replies and expired requests."""

import json
import time

import pytest

from caravel.nostr.relays.dial import Endpoint
from caravel.nostr.relays.pool import get_pool
from caravel.tests.support.waiting import LIMIT
from interop.tests.support.clients import ClientError
from lightning.clients import nwc
from sandbox.common.nostr import (
    Scheme,
    encrypt,
    generate_secret_key,
    sign_event,
)
from sandbox.nostr import SandboxRelay
from sandbox.wallets.methods import METHODS

pytestmark = pytest.mark.interop


def publish(relay, event, *, key):
    """Publish an event, with a key for relays that require authentication."""
    endpoints = [Endpoint(relay.url, private_allowed=True)]
    return get_pool().publish(endpoints, event, timeout=LIMIT, secret_key=key)


def test_wrong_secret_gets_nothing(monkeypatch, service, connect):
    # Some wallets do not answer a key that they do not know.
    monkeypatch.setattr(nwc, "TIMEOUT", 2.0)
    url = service.url.replace(service.wallet.keys.client, generate_secret_key())

    with pytest.raises(ClientError):
        connect(url).get_balance()


def forged_reply(request):
    """Return a reply to a request for the balance, by another key than the wallet's."""
    key, client = generate_secret_key(), request.pubkey
    scheme = Scheme.NIP04 if "?iv=" in request.content else Scheme.NIP44
    content = {"result_type": "get_balance", "result": {"balance": 1_000}}
    tags = [["p", client], ["e", request.id]]
    text = encrypt(scheme, key, client, json.dumps(content))
    return key, sign_event(key, kind=nwc.RESPONSE, content=text, tags=tags)


def test_reply_by_another_key_is_ignored(monkeypatch, relay, client):
    run, accepted = METHODS["get_balance"], []

    def forge_first(call):
        key, event = forged_reply(relay.events(nwc.REQUEST)[-1])
        accepted.extend(publish(relay, event, key=key))
        return run(call)

    monkeypatch.setitem(METHODS, "get_balance", forge_first)

    assert client.get_balance() == 10**9
    assert accepted


def test_requests_expire(relay, client):
    client.get_balance()

    requests = relay.events(nwc.REQUEST)
    assert all(event.expires_at for event in requests)


def expired_payment(wallet, bolt11):
    """Return a request to pay, from the wallet's client, that has expired."""
    content = {"method": "pay_invoice", "params": {"invoice": bolt11}}
    key, now = wallet.keys.client, int(time.time())
    return sign_event(
        key,
        kind=nwc.REQUEST,
        content=encrypt(Scheme.NIP04, key, wallet.pubkey, json.dumps(content)),
        tags=[["p", wallet.pubkey], ["expiration", str(now - 60)]],
        created_at=now - 120,
    )


def test_expired_request_is_not_run(wallets, relay, service, bob, client):
    if isinstance(relay, SandboxRelay):  # the others cannot be told to accept it
        relay.change_settings(honours_expiration=False)
    request = expired_payment(service.wallet, bob.issue(5_000).bolt11)

    publish(relay, request, key=service.wallet.keys.client)

    # Its answer comes after the request is run or dropped.
    assert client.get_balance() == 10**9
    assert wallets.ledger.debits("alice") == []
