"""A tenant's wallet is checked before it is connected."""

import io
import time
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from django.core.management import CommandError, call_command

from caravel.nostr import generate_secret_key, npub
from lightning.clients import nwc, nwc_info
from lightning.clients.nwc_replies import read_info
from lightning.clients.nwc_uri import parse_nwc_url
from lightning.exceptions import InvalidWalletUrl, WalletUnusable
from lightning.services.wallets import connect_wallet, disconnect_wallet
from sandbox.common.nostr import Scheme
from sandbox.wallets import Terms
from sandbox.wallets.behaviour import Protocol, ReplyBehaviour
from tenants.models import Activity, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet")]


@pytest.fixture
def tenant():
    return TenantFactory(nwc_error="Your old wallet did not pay.")


@pytest.fixture
def short_timeout():
    with patch.object(nwc, "TIMEOUT", 1.0):
        yield


def connect(tenant, wallet):
    url = wallet if isinstance(wallet, str) else wallet.url
    return connect_wallet(pubkey=tenant.pk, nwc_url=url)


def refusal(tenant, wallet):
    before = Tenant.objects.values().get(pk=tenant.pk)
    with pytest.raises(WalletUnusable) as caught:
        connect(tenant, wallet)
    assert Tenant.objects.values().get(pk=tenant.pk) == before
    assert not Activity.objects.exists()
    return caught.value


def test_wallet_that_can_pay_is_connected(tenant, alice):
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


def test_check_returns_budget_and_expiry(wallets, tenant):
    ends = int(time.time()) + 3_600
    wallet = wallets.create("bob", terms=Terms(budget_msat=50_000_000, expires_at=ends))

    check = connect(tenant, wallet)

    assert check.budget is not None
    assert check.budget.left_msat == 50_000_000
    assert check.expires_at in {None, datetime.fromtimestamp(ends, UTC)}


@pytest.mark.parametrize("code", ["RESTRICTED", "NOT_IMPLEMENTED"])
def test_connection_that_may_pay_but_not_get_info_is_connected(tenant, alice, code):
    """LNbits grants both apart: permission.py of lnbits/nwcprovider."""
    alice.reply_behaviour = ReplyBehaviour(error=code)

    check = connect(tenant, alice)

    assert (check.alias, check.budget) == ("", None)
    tenant.refresh_from_db()
    assert tenant.nwc_url


def test_budget_of_a_connection_without_get_info_is_shown(tenant, wallets):
    terms = Terms(denied=("get_info",), budget_msat=50_000_000)

    check = connect(tenant, wallets.create("bob", terms=terms))

    assert check.budget is not None
    assert check.budget.left_msat == 50_000_000


def test_connection_that_may_neither_pay_nor_get_info_cannot_pay(tenant, wallets):
    terms = Terms(denied=("get_info", "pay_invoice"))

    error = refusal(tenant, wallets.create("bob", terms=terms))

    assert error.code == "wallet-cannot-pay"


def test_connection_without_get_info_or_an_info_event_is_refused(
    relay, tenant, wallets
):
    wallet = wallets.create("bob", terms=Terms(denied=("get_info",)))
    relay.fault("drop", on="req", kinds={nwc_info.INFO})
    nwc_info.clear_scheme_cache()

    assert refusal(tenant, wallet).code == "wallet-refuses"


def test_nip_44_only_wallet_without_an_info_event_is_connected(relay, tenant, alice):
    alice.protocol = Protocol(encryption=(Scheme.NIP44,), announces=False)
    relay.fault("drop", on="req", kinds={nwc_info.INFO})
    nwc_info.clear_scheme_cache()

    assert connect(tenant, alice).alias


def test_wallet_that_is_off_is_silent(tenant, alice, short_timeout):
    alice.go_offline()

    error = refusal(tenant, alice)

    assert error.code == "wallet-silent"
    assert "does not answer" in error.message


def test_deleted_connection_is_silent(wallets, tenant, short_timeout):
    wallet = wallets.create("bob", terms=Terms(deleted=True))
    wallet.protocol = Protocol(answers_unknown_clients=False)

    assert refusal(tenant, wallet).code == "wallet-silent"


def test_wrong_secret_is_silent(tenant, alice, short_timeout):
    alice.protocol = Protocol(answers_unknown_clients=False)
    secret = parse_nwc_url(alice.url, private_allowed=True).secret
    wrong = alice.url.replace(secret, generate_secret_key())

    assert refusal(tenant, wrong).code == "wallet-silent"


def test_wrong_secret_is_refused_by_a_wallet_that_answers(tenant, alice):
    secret = parse_nwc_url(alice.url, private_allowed=True).secret

    error = refusal(tenant, alice.url.replace(secret, generate_secret_key()))

    assert error.code == "wallet-refuses"


def test_read_only_connection_cannot_pay(wallets, tenant):
    wallet = wallets.create("bob", terms=Terms(read_only=True))

    assert refusal(tenant, wallet).code == "wallet-cannot-pay"


def test_expired_connection_is_refused(wallets, tenant):
    wallet = wallets.create("bob", terms=Terms(expires_at=int(time.time()) - 1))

    assert refusal(tenant, wallet).code == "wallet-expired"


def test_connection_whose_info_says_expired_is_refused(tenant, alice, monkeypatch):
    expired = {"expires_at": int(time.time()) - 5}
    monkeypatch.setattr(
        nwc, "read_info", lambda result: read_info({**result, **expired})
    )

    assert refusal(tenant, alice).code == "wallet-expired"


def test_wallet_that_fails_get_info_is_refused(tenant, alice):
    alice.reply_behaviour = ReplyBehaviour(error="INTERNAL")

    assert refusal(tenant, alice).code == "wallet-error"


def test_wallet_whose_relay_is_down_is_unreachable(relay, tenant, alice):
    relay.go_offline()

    error = refusal(tenant, alice)

    assert error.code == "wallet-unreachable"
    assert "does not answer" in error.message


def test_private_relay_is_refused(settings, relay, tenant, alice):
    settings.NWC_ALLOW_PRIVATE_RELAYS = False

    with pytest.raises(InvalidWalletUrl) as caught:
        connect(tenant, alice)

    assert caught.value.code == "nwc-relay-private"
    assert not relay.events(nwc.REQUEST)


def test_wallet_whose_relay_refuses_is_unreachable_with_the_reason(
    relay, tenant, alice
):
    relay.fault("reject", kinds={23194}, reason="blocked: not here")

    error = refusal(tenant, alice)

    assert error.code == "wallet-unreachable"
    assert "blocked: not here" in error.message


def test_relay_that_resolves_to_a_private_address_is_unreachable(
    settings, tenant, alice
):
    settings.NWC_ALLOW_PRIVATE_RELAYS = False
    port = alice.relay.rsplit(":", 1)[1]
    url = alice.url.replace(f"127.0.0.1%3A{port}", f"relay.example.com%3A{port}")

    with patch(
        "socket.getaddrinfo",
        lambda host, port, *args, **kw: [(2, 1, 6, "", ("127.0.0.1", port))],
    ):
        error = refusal(tenant, url)

    assert error.code == "wallet-unreachable"
    assert "does not answer" in error.message


def test_disconnected_wallet_is_removed(tenant, alice):
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


def test_command_names_the_relays_that_are_left_out(monkeypatch, tenant, alice):
    out = command(monkeypatch, tenant, url=f"{alice.url}&relay=ftp://r.example.com")

    assert "Relay 2 is left out: A relay's address must be wss://host" in out


def test_command_reads_the_secret_from_standard_input(monkeypatch, wallets, tenant):
    wallet = wallets.create("bob", terms=Terms(budget_msat=5_000_000))

    output = command(monkeypatch, tenant, url=f"{wallet.url}\n")

    assert "Connected" in output
    assert "5000 of 5000 sats" in output
    assert wallet.keys.client not in output
    tenant.refresh_from_db()
    assert tenant.nwc_url
    assert "disconnected" in command(monkeypatch, tenant, "--remove")
    tenant.refresh_from_db()
    assert not tenant.nwc_url


def test_command_reports_errors(monkeypatch, tenant):
    with pytest.raises(CommandError, match="nwc-url-invalid"):
        command(monkeypatch, tenant, url="hello")
    with pytest.raises(CommandError, match="no such tenant"):
        command(monkeypatch, TenantFactory.build(), url="hello")
