"""Alerts are logged always, and mailed to support once a day."""

from datetime import datetime, timedelta
from unittest.mock import patch

import pytest
import time_machine
from celery.exceptions import Retry
from django.db import transaction
from structlog.testing import capture_logs

from caravel.core.alerts import alert_support
from caravel.tasks import mail_alert
from tenants.tests.support.mail_server import running_mail_server

pytestmark = pytest.mark.django_db

NOON = datetime.fromisoformat("2026-11-30T12:00:00Z")
WALLET = f"nostr+walletconnect://{'a' * 64}?secret={'b' * 64}"


@pytest.fixture
def support(settings):
    """The mail server of support's address."""
    with running_mail_server() as server:
        settings.EMAIL_ENABLED = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", server.port
        settings.SUPPORT_EMAIL = "support@example.com"
        yield server


@pytest.fixture
def alert(django_capture_on_commit_callbacks):
    """Raise an alert, and run its tasks as a worker would."""

    def alert(event="price_missing", message="No price.", **fields):
        with (
            patch.object(mail_alert, "apply_async") as apply_async,
            django_capture_on_commit_callbacks(execute=True),
        ):
            alert_support(event, message, **fields)
        for call in apply_async.call_args_list:
            mail_alert(*call.args[0])

    return alert


def text_of(mail):
    return mail.get_payload(decode=True).decode().replace("\r\n", "\n").strip()


def test_alert_is_logged_as_error_and_mailed_with_its_fields(support, alert):
    with capture_logs() as logs:
        alert(message="The plan basic has no price.", plan="basic", relays=2)

    assert logs[0] == {
        "event": "price_missing",
        "log_level": "error",
        "message": "The plan basic has no price.",
        "plan": "basic",
        "relays": 2,
    }
    (mail,) = support.received
    assert mail["To"] == "support@example.com"
    assert mail["Subject"] == "Caravel: price missing"
    assert text_of(mail) == "The plan basic has no price.\n\nplan: basic\nrelays: 2"


def test_alert_is_mailed_once_per_event_and_fields_a_day(support, alert):
    with time_machine.travel(NOON) as clock:
        alert("price_missing", "Since 1 hour.", plan="basic")
        alert("price_missing", "Since 2 hours.", plan="basic")
        alert("price_missing", plan="pro")
        alert("discount_lost", plan="basic")

        assert len(support.received) == 3

        clock.shift(timedelta(days=1))
        alert("price_missing", "Since 1 day.", plan="basic")

    assert text_of(support.received[-1]).startswith("Since 1 day.")


def test_one_event_is_mailed_at_most_twenty_times_a_day(support, alert):
    with time_machine.travel(NOON) as clock:
        for number in range(25):
            alert("sync_refused", tenant=number)
        assert len(support.received) == 20

        alert("price_missing")
        clock.shift(timedelta(days=1))
        alert("sync_refused", tenant=24)

    assert len(support.received) == 22


def test_mail_that_was_not_accepted_is_retried_and_then_sent_once(support, alert):
    support.refusal = "451 later"
    with (
        patch.object(mail_alert, "retry", side_effect=Retry) as retry,
        pytest.raises(Retry),
    ):
        alert()
    support.refusal = ""

    alert()
    alert()

    retry.assert_called_once()
    assert len(support.received) == 1


def test_secret_in_alert_is_neither_mailed_nor_sent_to_broker(
    support, django_capture_on_commit_callbacks
):
    with (
        patch.object(mail_alert, "apply_async") as apply_async,
        django_capture_on_commit_callbacks(execute=True),
    ):
        alert_support("wallet_failed", f"It is {WALLET}", wallet=WALLET)

    (call,) = apply_async.call_args_list
    assert "b" * 64 not in str(call)
    mail_alert(*call.args[0])
    assert "b" * 64 not in text_of(support.received[0])


def test_alert_of_transaction_that_is_rolled_back_is_not_mailed(support, alert):
    with (
        patch.object(mail_alert, "apply_async") as apply_async,
        pytest.raises(ZeroDivisionError),
        transaction.atomic(),
    ):
        alert_support("price_missing", "No price.")
        raise ZeroDivisionError

    apply_async.assert_not_called()
    alert()
    assert len(support.received) == 1


@pytest.mark.parametrize(
    "missing", [{"SUPPORT_EMAIL": ""}, {"EMAIL_ENABLED": False}], ids=str
)
def test_alert_without_address_or_mail_server_is_only_logged(
    support, alert, settings, missing
):
    for name, value in missing.items():
        setattr(settings, name, value)

    with capture_logs() as logs:
        alert()

    assert [log["log_level"] for log in logs] == ["error"]
    assert support.received == []
