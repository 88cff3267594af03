"""Reminders before the grace period ends: one per stage, only the latest."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from billing.models import InvoiceCollection
from billing.services.dunning.notices import drop_unpaid_notices
from billing.services.dunning.suspension import (
    end_grace_now,
    extend_grace,
    review_tenant,
    tenants_to_review,
)
from billing.tests.factories import InvoiceCollectionFactory
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

END = datetime(2030, 3, 8, 12, tzinfo=UTC)
START = END - timedelta(days=7)


@pytest.fixture
def invoice():
    with time_machine.travel(START, tick=False):
        tenant = TenantFactory(stripe_subscription_id="sub_1")
        return InvoiceCollectionFactory(tenant=tenant)


def tick(before_end: timedelta) -> None:
    """Run the dunning tick at a time before the grace period ends."""
    with time_machine.travel(END - before_end, tick=False):
        for tenant_id in tenants_to_review(END - before_end):
            review_tenant(tenant_id=tenant_id)
        assert tenants_to_review(END - before_end) == []


def kinds(state="waiting") -> list[str]:
    rows = Notice.objects.filter(kind__startswith="reminder", state=state)
    return list(rows.order_by("pk").values_list("kind", flat=True))


def send() -> None:
    Notice.objects.waiting().update(state="sent", sent_at=END)


@pytest.mark.parametrize(
    ("before_end", "expected"),
    [
        (timedelta(days=7), []),
        (timedelta(days=3, seconds=1), []),
        (timedelta(days=3), ["reminder_3"]),
        (timedelta(days=1, seconds=1), ["reminder_3"]),
        (timedelta(days=1), ["reminder_1"]),
        (timedelta(hours=8, seconds=1), ["reminder_1"]),
        (timedelta(hours=8), ["reminder_0"]),
        (timedelta(seconds=1), ["reminder_0"]),
        (timedelta(0), []),
        (-timedelta(days=3), []),
    ],
)
def test_after_downtime_only_the_latest_reminder_is_sent(invoice, before_end, expected):
    tick(before_end)

    assert kinds() == expected
    assert set(Notice.objects.values_list("subject", flat=True)) <= {invoice.pk}


def test_each_reminder_is_sent_once_at_its_time(invoice):
    for hours in (80, 72, 60, 25, 24, 9, 8, 3, 1):
        tick(timedelta(hours=hours))
        tick(timedelta(hours=hours))
        send()

    assert kinds("sent") == ["reminder_3", "reminder_1", "reminder_0"]


def test_unsent_reminder_is_replaced_by_the_next(invoice):
    tick(timedelta(days=3))
    tick(timedelta(days=1))
    tick(timedelta(hours=1))

    assert kinds() == ["reminder_0"]
    assert kinds("dropped") == ["reminder_3", "reminder_1"]


def test_stages_missed_during_downtime_are_skipped(invoice):
    tick(timedelta(days=3))
    send()
    tick(timedelta(hours=2))

    assert kinds() == ["reminder_0"]
    assert kinds("sent") == ["reminder_3"]


@pytest.mark.parametrize(
    "columns",
    [{"stripe_status": "paid", "amount_remaining_cents": 0}, {"stripe_status": "void"}],
)
def test_no_reminder_for_a_settled_invoice(invoice, columns):
    InvoiceCollection.objects.update(**columns)

    tick(timedelta(days=1))

    assert kinds() == []


def test_no_reminder_for_an_exempt_tenant(invoice):
    Tenant.objects.update(dunning_exempt=True)

    tick(timedelta(days=1))

    assert kinds() == []


def test_exemption_drops_unsent_reminders(invoice):
    tick(timedelta(days=1))
    Tenant.objects.update(dunning_exempt=True)

    with time_machine.travel(END - timedelta(hours=20), tick=False):
        review_tenant(tenant_id=invoice.tenant_id)
    assert kinds() == []

    Tenant.objects.update(dunning_exempt=False)
    tick(timedelta(hours=19))
    assert kinds() == ["reminder_1"]


def test_payment_drops_unsent_reminders(invoice):
    tick(timedelta(days=1))

    drop_unpaid_notices(invoice)

    assert kinds() == []


@pytest.mark.parametrize("days", [1, 3])
def test_no_reminder_for_a_stage_as_long_as_the_grace_period(invoice, days):
    finalized_at = END - timedelta(days=days)
    InvoiceCollection.objects.update(finalized_at=finalized_at)

    tick(timedelta(days=days))

    assert kinds() == []


def test_reminders_are_sent_again_after_an_extension(invoice):
    tick(timedelta(days=3))
    send()
    tick(timedelta(days=1))
    with time_machine.travel(END - timedelta(hours=12), tick=False):
        extend_grace(invoice_id=invoice.pk, by=timedelta(days=7))
    assert kinds() == []

    tick(timedelta(days=-7) + timedelta(days=3))

    assert kinds() == ["reminder_3"]
    assert "15 March 2030" in Notice.objects.waiting().get().text


def test_no_reminder_when_the_grace_period_is_ended_early(invoice):
    tick(timedelta(days=3))

    with time_machine.travel(END - timedelta(days=2), tick=False):
        end_grace_now(tenant_id=invoice.tenant_id, invoice_ids=[invoice.pk])

    assert kinds() == []
