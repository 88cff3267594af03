"""A tenant's wallet is asked before it is relied on."""

import io
import time
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from django.core.management import CommandError, call_command

from caravel.nostr import generate_secret_key, npub
from lightning.clients import nwc
from lightning.clients.nwc_replies import read_info
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import InvalidWalletUrl, WalletUnusable
from lightning.services.wallets import connect_wallet, disconnect_wallet
from sandbox.wallets import Protocol, ReplyBehaviour, Terms
from tenants.models import Activity, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("platform")]


@pytest.fixture
def tenant():
    return TenantFactory(nwc_error="Your old wallet did not pay.")


@pytest.fixture
def impatient():
    with patch.object(nwc, "QUICK", 0.5):
        yield


def connect(tenant, wallet, **replace):
    url = wallet if isinstance(wallet, str) else wallet.url
    return connect_wallet(pubkey=tenant.pk, nwc_url=url)


def refused(tenant, wallet):
    before = Tenant.objects.values().get(pk=tenant.pk)
    with pytest.raises(WalletUnusable) as caught:
        connect(tenant, wallet)
    assert Tenant.objects.values().get(pk=tenant.pk) == before
    assert not Activity.objects.exists()
    return caught.value


def test_a_wallet_that_can_pay_is_connected(tenant, alice):
    check = connect(tenant, alice)

    assert check.alias
    assert check.hosts in alice.url.replace("%3A", ":")
    assert (check.budget, check.expires_at) == (None, None)
    tenant.refresh_from_db()
    assert parse_nwc_url(
        tenant.nwc_url.reveal(), private_allowed=True
    ) == parse_nwc_url(alice.url, private_allowed=True)
    assert tenant.nwc_error == ""
    assert Activity.objects.get().snapshot == {"wallet": "connected"}


def test_budget_and_expiry_are_told_when_there_are_any(wallets, tenant):
    ends = int(time.time()) + 3_600
    wallet = wallets.create("bob", terms=Terms(budget_msat=50_000_000, expires_at=ends))

    check = connect(tenant, wallet)

    assert check.budget is not None
    assert check.budget.left_msat == 50_000_000
    assert check.expires_at in {None, datetime.fromtimestamp(ends, UTC)}


def test_a_wallet_that_is_off(tenant, alice, impatient):
    alice.go_offline()

    error = refused(tenant, alice)

    assert error.code == "wallet-silent"
    assert "does not answer" in error.message


def test_a_connection_that_was_deleted_looks_the_same(wallets, tenant, impatient):
    wallet = wallets.create("bob", terms=Terms(deleted=True))
    wallet.protocol = Protocol(answers_unknown_clients=False)

    assert refused(tenant, wallet).code == "wallet-silent"


def test_so_does_a_wrong_secret(tenant, alice, impatient):
    alice.protocol = Protocol(answers_unknown_clients=False)
    secret = parse_nwc_url(alice.url, private_allowed=True).secret
    wrong = alice.url.replace(secret, generate_secret_key())

    assert refused(tenant, wrong).code == "wallet-silent"


def test_a_stranger_to_a_wallet_that_says_so(tenant, alice):
    secret = parse_nwc_url(alice.url, private_allowed=True).secret

    error = refused(tenant, alice.url.replace(secret, generate_secret_key()))

    assert error.code == "wallet-refuses"


def test_a_connection_that_may_not_pay(wallets, tenant):
    wallet = wallets.create("bob", terms=Terms(read_only=True))

    assert refused(tenant, wallet).code == "wallet-cannot-pay"


def test_a_connection_that_has_expired(wallets, tenant):
    wallet = wallets.create("bob", terms=Terms(expires_at=int(time.time()) - 1))

    assert refused(tenant, wallet).code == "wallet-expired"


def test_an_expiry_that_has_passed_as_the_wallet_tells(tenant, alice, monkeypatch):
    true = read_info
    told = {"expires_at": int(time.time()) - 5}
    monkeypatch.setattr(nwc, "read_info", lambda found: true({**found, **told}))

    assert refused(tenant, alice).code == "wallet-expired"


def test_a_wallet_that_fails(tenant, alice):
    alice.reply_behaviour = ReplyBehaviour(error="INTERNAL")

    assert refused(tenant, alice).code == "wallet-error"


def test_a_relay_that_is_away(relay, tenant, alice):
    relay.go_offline()

    error = refused(tenant, alice)

    assert error.code == "wallet-unreachable"
    assert "does not answer" in error.message


def test_a_private_relay(settings, relay, tenant, alice):
    settings.NWC_ALLOW_PRIVATE_RELAYS = False

    with pytest.raises(InvalidWalletUrl) as caught:
        connect(tenant, alice)

    assert caught.value.code == "nwc-relay-private"
    assert not relay.events(nwc.REQUEST)


def test_a_name_that_leads_to_a_private_address(settings, tenant, alice):
    settings.NWC_ALLOW_PRIVATE_RELAYS = False
    port = alice.relays[0].rsplit(":", 1)[1]
    url = alice.url.replace(f"127.0.0.1%3A{port}", f"relay.example.com%3A{port}")

    with patch(
        "socket.getaddrinfo",
        lambda host, port, *args, **kw: [(2, 1, 6, "", ("127.0.0.1", port))],
    ):
        error = refused(tenant, url)

    assert error.code == "wallet-unreachable"
    assert "not on the public internet" in error.message


def test_a_wallet_is_forgotten(tenant, alice):
    connect(tenant, alice)

    disconnect_wallet(pubkey=tenant.pk)

    tenant.refresh_from_db()
    assert not tenant.nwc_url
    assert Activity.objects.latest("pk").snapshot == {"wallet": "disconnected"}


# --- the command


def command(monkeypatch, tenant, *args, url=""):
    monkeypatch.setattr("sys.stdin", io.StringIO(url))
    out = io.StringIO()
    call_command("connect_wallet", npub(tenant.pk), *args, stdout=out)
    return out.getvalue()


def test_support_connects_a_wallet_without_its_secret_in_a_command_line(
    monkeypatch, wallets, tenant
):
    wallet = wallets.create("bob", terms=Terms(budget_msat=5_000_000))

    said = command(monkeypatch, tenant, url=f"{wallet.url}\n")

    assert "Connected" in said
    assert "5000 of 5000 sats" in said
    assert wallet.keys.client not in said
    tenant.refresh_from_db()
    assert tenant.nwc_url
    assert "no wallet" in command(monkeypatch, tenant, "--remove")
    tenant.refresh_from_db()
    assert not tenant.nwc_url


def test_the_command_says_what_is_wrong(monkeypatch, tenant):
    with pytest.raises(CommandError, match="nwc-url-invalid"):
        command(monkeypatch, tenant, url="hello")
    with pytest.raises(CommandError, match="no such tenant"):
        command(monkeypatch, TenantFactory.build(), url="hello")
