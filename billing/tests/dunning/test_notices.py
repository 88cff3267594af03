"""Texts of the notices: the event, the action to take, and the deadline."""

from datetime import UTC, datetime

import pytest
import time_machine
from django.utils import timezone

from billing.models import CardAttempt, Credit
from billing.money import format_amount
from billing.services.dunning import notices
from billing.services.invoices.payment_link import verify_token
from billing.tests.factories import InvoiceCollectionFactory
from caravel.core.exceptions import UnknownCurrency
from lightning.models import NwcPayment
from lightning.tests.factories import make_invoice
from relays.models import Relay
from relays.tests.factories import RelayFactory
from tenants.models import Notice
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fixed_time():
    with time_machine.travel(datetime(2030, 3, 1, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
def invoice():
    tenant = TenantFactory(nwc_url="nostr+walletconnect://…", nwc_error="")
    RelayFactory(tenant=tenant)
    return InvoiceCollectionFactory(
        tenant=tenant,
        number="CARAVEL-0001",
        amount_remaining_cents=123_456,
        suspend_at=datetime(2030, 3, 8, 14, 30, tzinfo=UTC),
        period_end=datetime(2030, 4, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("cents", "currency", "formatted"),
    [
        (500, "usd", "$5.00"),
        (5, "eur", "€0.05"),
        (123_456_789, "usd", "$1,234,567.89"),
        (500, "chf", "5.00 CHF"),
        (500, "jpy", "500 JPY"),
        (1500, "kwd", "1.500 KWD"),
        (-500, "usd", "-$5.00"),
        (0, "USD", "$0.00"),
    ],
)
def test_amounts_are_formatted_with_symbol_and_decimals(cents, currency, formatted):
    assert format_amount(cents, currency) == formatted


def test_unknown_currency_has_no_symbol():
    with pytest.raises(UnknownCurrency):
        format_amount(500, "zzz")


def link_in(notice: Notice) -> str:
    (line,) = [line for line in notice.text.splitlines() if "/pay/" in line]
    return line


def test_invoice_notice_has_amount_deadline_and_link(invoice, settings):
    notice = notices.notify_invoice_due(invoice)

    assert notice.title == "Invoice CARAVEL-0001: $1,234.56, please pay by 8 March 2030"
    assert "8 March 2030, 14:30 UTC" in notice.text
    assert "wallet" not in notice.text
    link = link_in(notice)
    assert link.startswith(f"{settings.APP_URL}/pay/")
    assert verify_token(link.rsplit("/", 1)[1]) == invoice.pk


def create_refused_attempt(invoice):
    """Record an attempt with the wallet, which refused to pay this invoice."""
    fields = {"tenant": invoice.tenant, "stripe_invoice_id": invoice.pk}
    bolt11 = make_invoice(wallet_pubkey="00" * 32, **fields)
    NwcPayment.objects.create(
        invoice=bolt11, state="refused", resolved_at=timezone.now(), **fields
    )


def test_invoice_notice_names_the_wallet_error(invoice):
    create_refused_attempt(invoice)
    invoice.tenant.nwc_error = "Your wallet did not pay: its balance is too low."
    notice = notices.notify_invoice_due(invoice)

    (line,) = [line for line in notice.text.splitlines() if "wallet" in line]
    reason = line.split("asked your wallet to pay it. ")[1]
    assert reason == "Your wallet did not pay: its balance is too low."


def test_no_wallet_error_in_the_notice_if_the_wallet_was_not_tried(invoice):
    invoice.tenant.nwc_error = "Your wallet did not pay: no balance"

    assert "wallet" not in notices.notify_invoice_due(invoice).text


def test_no_wallet_error_in_the_notice_after_a_disconnection(invoice):
    create_refused_attempt(invoice)
    invoice.tenant.nwc_url, invoice.tenant.nwc_error = "", "It did not pay."

    assert "wallet" not in notices.notify_invoice_due(invoice).text


def test_payment_failed_notice_names_the_reason(invoice):
    for number, message in enumerate(["Too old.", "Your card was declined."]):
        CardAttempt.objects.create(
            collection=invoice,
            payment_method="pm_1",
            amount_cents=500,
            idempotency_key=f"key-{number}",
            state="refused",
            message=message,
            resolved_at=timezone.now(),
        )

    notice = notices.notify_payment_failed(invoice)

    assert "did not work: Your card was declined." in notice.text
    assert link_in(notice)


def test_payment_failed_notice_asks_to_confirm_with_the_bank(invoice):
    CardAttempt.objects.create(
        collection=invoice,
        payment_method="pm_1",
        amount_cents=500,
        idempotency_key="key",
        state="action_required",
        resolved_at=timezone.now(),
    )

    notice = notices.notify_payment_failed(invoice)

    assert "Your bank wants you to confirm the payment. Please do so" in notice.text


@pytest.mark.parametrize(
    ("zone", "time"),
    [
        ("UTC", "8 March 2030, 14:30 UTC,"),
        ("Europe/Berlin", "8 March 2030, 15:30 UTC+1,"),
        ("Asia/Kolkata", "8 March 2030, 20:00 UTC+5:30,"),
        ("America/St_Johns", "8 March 2030, 11:00 UTC-3:30,"),
        ("Pacific/Kiritimati", "9 March 2030, 04:30 UTC+14,"),
    ],
)
def test_times_are_in_the_tenants_time_zone(invoice, zone, time):
    invoice.tenant.time_zone = zone

    notice = notices.notify_invoice_due(invoice)

    assert f"by {time}" in notice.text
    assert notice.title.endswith(time.split(",")[0])


@pytest.mark.parametrize("kind", notices.REMINDERS)
def test_no_threat_of_suspension_without_a_running_relay(invoice, kind):
    Relay.objects.update(status="inactive")

    due = notices.notify_invoice_due(invoice)
    reminder = notices.notify_reminder(invoice, kind)

    for notice in (due, reminder):
        assert "relays" not in notice.title + notice.text
        assert "8 March 2030, 14:30 UTC" in notice.text


@pytest.mark.parametrize("kind", ["invoice_due", "payment_failed"])
def test_past_deadline_is_left_out_of_notices(invoice, kind):
    notify = {
        "invoice_due": notices.notify_invoice_due,
        "payment_failed": notices.notify_payment_failed,
    }[kind]
    with time_machine.travel(datetime(2030, 3, 9, tzinfo=UTC), tick=False):
        notice = notify(invoice)

    assert "March" not in notice.title + notice.text
    assert "relays" not in notice.text
    assert "lease pay" in notice.text
    assert link_in(notice)


@pytest.mark.parametrize("kind", notices.REMINDERS)
def test_reminders_have_amount_deadline_and_link(invoice, kind):
    notice = notices.notify_reminder(invoice, kind)

    assert "$1,234.56" in notice.text
    assert "8 March 2030, 14:30 UTC" in notice.text
    assert link_in(notice)


def test_suspension_and_reactivation_notices_have_a_link(invoice):
    suspended = notices.notify_suspended(invoice)
    assert "come back by themselves" in suspended.text
    # A credit note reduces it afterwards.
    assert "$" not in suspended.text
    assert link_in(suspended)
    reactivated = notices.notify_reactivated(invoice)
    assert "on again. " in reactivated.text
    assert "$1,234.56 is still open. Please pay by 8 March 2030" in reactivated.text
    assert link_in(reactivated)


def test_relays_are_not_promised_until_a_time_when_another_invoice_may_be_overdue(
    invoice,
):
    InvoiceCollectionFactory(
        tenant=invoice.tenant, suspend_at=datetime(2030, 3, 2, tzinfo=UTC)
    )

    due = notices.notify_invoice_due(invoice)
    disputed = notices.notify_payment_disputed(invoice)
    suspended = notices.notify_suspended(invoice)

    for notice in (due, disputed):
        assert "by 8 March 2030, 14:30 UTC, so that your relays stay on" in notice.text
        assert "relays run" not in notice.text and "stay on until" not in notice.text
    assert suspended.title == "Your relays are off: invoice CARAVEL-0001 is still open"


def test_exempt_tenant_is_not_told_that_its_relays_depend_on_a_payment(invoice):
    invoice.tenant.dunning_exempt = True

    due = notices.notify_invoice_due(invoice)
    disputed = notices.notify_payment_disputed(invoice)

    assert "stay on" not in due.text + disputed.text
    assert "nothing new can be added" not in disputed.text


def test_bank_debit_is_not_called_a_card_in_the_notice_of_its_payment(invoice):
    invoice.tenant.payment_notices = True
    CardAttempt.objects.create(
        collection=invoice,
        payment_method="pm_1",
        method_type="sepa_debit",
        amount_cents=500,
        idempotency_key="key",
        state="paid",
        resolved_at=timezone.now(),
    )

    notice = notices.notify_paid(invoice, notices.PaidBy.CARD)

    assert notice and "debited your bank account for invoice" in notice.text
    assert "card" not in notice.text


def test_reactivation_notice_thanks_only_after_payment(invoice):
    invoice.status, invoice.amount_remaining_cents = "paid", 0

    reactivated = notices.notify_reactivated(invoice)

    assert "on again, thank you." in reactivated.text
    assert "open" not in reactivated.text


def test_wallet_trouble_notice_names_the_problem(invoice):
    notice = notices.notify_wallet_trouble(invoice, "This connection has expired.")

    assert "1 April 2030" in notice.text
    assert "This connection has expired." in notice.text


def test_overpayment_notice_has_the_amount(invoice):
    credit = Credit.objects.create(
        tenant=invoice.tenant,
        reason="surplus",
        source="hash",
        currency="usd",
        amount_cents=700,
    )

    notice = notices.notify_overpayment(credit)
    assert notice == notices.notify_overpayment(credit)

    assert notice.title == "We have credited you $7.00"
    assert "You do not need to do anything." in notice.text


def test_overpayment_of_a_closed_account_asks_to_contact_us(invoice):
    invoice.tenant.closed_at = timezone.now()
    credit = Credit.objects.create(
        tenant=invoice.tenant,
        reason="surplus",
        source="hash",
        currency="usd",
        amount_cents=700,
    )

    assert "please contact us" in notices.notify_overpayment(credit).text


def test_each_notice_is_sent_once(invoice):
    assert notices.notify_invoice_due(invoice) == notices.notify_invoice_due(invoice)

    assert Notice.objects.count() == 1


def test_unsent_notices_are_dropped_when_the_invoice_is_paid(invoice):
    other = InvoiceCollectionFactory(tenant=invoice.tenant)
    notices.notify_invoice_due(invoice)
    notices.notify_payment_failed(invoice)
    notices.notify_reminder(invoice, "reminder_1")
    other_notice = notices.notify_invoice_due(other)

    assert notices.drop_unpaid_notices(invoice) == 3

    assert list(Notice.objects.waiting()) == [other_notice]


def test_every_template_renders_without_gaps(invoice):
    invoice.number = ""
    for notify in (
        notices.notify_invoice_due,
        notices.notify_payment_failed,
        notices.notify_suspended,
        notices.notify_reactivated,
    ):
        notice = notify(invoice)
        assert notice.title and notice.text
        assert "{" not in notice.title + notice.text
        assert "  " not in notice.text


def test_messages_end_with_the_seller_and_how_to_reach_them(invoice, settings):
    settings.SELLER_NAME = "Łódź Relays"
    settings.SELLER_ADDRESS = "ul. Długa 1, Łódź"
    settings.SELLER_TAX_ID = "NIP 123"
    settings.SELLER_CONTACT = "help@relays.example"

    notice = notices.notify_invoice_due(invoice)

    assert notice.text.endswith(
        "\n\nŁódź Relays\nul. Długa 1, Łódź\nNIP 123\nhelp@relays.example"
    )
