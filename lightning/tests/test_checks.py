"""Checks at the start of a process, and listening for payment notifications."""

from types import SimpleNamespace
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from kombu.exceptions import OperationalError

from caravel.tests.support.waiting import wait_until
from lightning import checks, signals
from lightning.models import LightningInvoice
from lightning.tasks import check_payment_hashes
from lightning.tests.factories import make_invoice, make_payment_request
from lightning.tests.support.payments import get_or_issue_invoice
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("own_wallet", "prices")]


def consumer(*queues):
    names = [SimpleNamespace(name=queue) for queue in queues]
    return SimpleNamespace(task_consumer=SimpleNamespace(queues=names))


def test_start_fails_if_a_wallet_with_watched_invoices_is_missing(
    settings, wallets, own_wallet
):
    invoice = make_invoice(TenantFactory(), own_wallet.pubkey)
    second = wallets.create("second")
    settings.ROBOT_WALLETS = [second.url]

    (error,) = checks.missing_wallet_errors()
    assert own_wallet.pubkey in error
    with pytest.raises(SystemCheckError, match=r"lightning\.E001"):
        call_command("check", "--database", "default")
    with pytest.raises(SystemExit, match="ROBOT_WALLET lacks"):
        signals.refuse_missing_wallets()
    settings.ROBOT_WALLETS = [second.url, own_wallet.url]
    signals.refuse_missing_wallets()
    call_command("check", "--database", "default", verbosity=0)
    settings.ROBOT_WALLETS = [second.url]
    invoice.state = LightningInvoice.State.DEAD
    invoice.save()
    assert checks.missing_wallet_errors() == []


def test_check_fails_for_an_invalid_own_wallet(settings, own_wallet):
    call_command("check", verbosity=0)
    settings.ROBOT_WALLETS = [own_wallet.url, "nostr+walletconnect://example"]

    with pytest.raises(SystemCheckError, match=r"ROBOT_WALLET: .*nwc-pubkey"):
        call_command("check")


def test_check_warns_of_an_own_wallets_relay_that_is_not_used(settings, own_wallet):
    settings.ROBOT_WALLETS = [f"{own_wallet.url}&relay=ftp://r.example.com"]

    (warning,) = checks.check_robot_wallets()

    assert (warning.id, own_wallet.pubkey in warning.msg) == ("lightning.W003", True)
    assert "Relay 2 is left out" in warning.msg


def test_no_wallet_is_missing_before_the_first_migration(settings, wallets, own_wallet):
    make_invoice(TenantFactory(), own_wallet.pubkey)
    settings.ROBOT_WALLETS = [wallets.create("second").url]

    with patch("django.db.connection.introspection.table_names", return_value=[]):
        assert checks.missing_wallet_errors() == []


def test_worker_of_the_lightning_queue_gets_notifications(relay, alice):
    before = relay.subscriptions
    with patch.object(check_payment_hashes, "delay") as delay:
        signals.listen_for_payments(sender=consumer("lightning", "nostr"))
        wait_until(lambda: relay.subscriptions > before)
        invoice = get_or_issue_invoice(make_payment_request(TenantFactory()))
        alice.pay(invoice.bolt11)
        wait_until(lambda: delay.called)

    delay.assert_called_once_with([invoice.payment_hash])


def test_worker_of_other_queues_does_not_listen(relay):
    before = relay.subscriptions

    signals.listen_for_payments(sender=consumer("default", "stripe"))

    assert relay.subscriptions == before


def test_notification_that_the_broker_rejects_is_logged(caplog):
    with patch.object(
        check_payment_hashes, "delay", side_effect=OperationalError("off")
    ):
        signals.check_notified_payments(["ab" * 32])

    assert "hints_lost" in caplog.text
