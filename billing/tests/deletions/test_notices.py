"""Date of the deletion in billing's notice of the suspension, which has the link."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.models import SubscriptionSync
from billing.services.dunning.suspension import remind_of_debt, review_tenant
from billing.tasks import remind_of_debt as remind_task
from billing.tests.deletions.conftest import NOW, Suspended
from billing.tests.factories import InvoiceCollectionFactory
from relays.tests.factories import RelayFactory
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def suspensions() -> list[Notice]:
    return list(Notice.objects.filter(kind="suspended").order_by("pk"))


def test_notice_of_the_suspension_names_the_deletion(clock):
    Suspended(clock)

    (notice,) = suspensions()
    assert "we delete what is still off on 29 January 2027, 12:00 UTC." in notice.text


def test_notice_names_the_first_deletion(clock):
    suspended = Suspended(clock)
    clock.shift(timedelta(days=10))
    RelayFactory(tenant=suspended.tenant)

    review_tenant(tenant_id=suspended.tenant.pk)

    assert "29 January 2027" in suspensions()[-1].text


def test_notice_names_the_deletion_if_relays_were_only_paused_until_now(clock):
    tenant = TenantFactory(stripe_subscription_id="sub_1")
    RelayFactory(tenant=tenant)
    pause = {"paused_subscription_id": "sub_1", "paused_at": NOW}
    SubscriptionSync.objects.update_or_create(tenant=tenant, defaults=pause)
    review_tenant(tenant_id=tenant.pk)
    clock.shift(timedelta(days=10))
    InvoiceCollectionFactory(tenant=tenant, created_at=NOW)

    review_tenant(tenant_id=tenant.pk)

    paused, suspended = Notice.objects.order_by("pk")
    assert "Nothing is deleted" in paused.text
    assert "still off on 8 February 2027" in suspended.text


def test_without_deletion_the_notice_says_that_nothing_is_deleted(clock, settings):
    settings.RELAY_DELETION = False

    Suspended(clock)

    assert "Nothing is deleted" in suspensions()[0].text


def test_unsent_notice_names_the_date_that_holds_now(clock, settings):
    suspended = Suspended(clock)
    suspended.review(40)

    review_tenant(tenant_id=suspended.tenant.pk)

    assert "8 February 2027" in suspensions()[0].text


def test_link_to_pay_is_sent_with_the_offer_and_with_the_warning(
    clock, monkeypatch, django_capture_on_commit_callbacks
):
    suspended, sent_at = Suspended(clock), []
    monkeypatch.setattr(
        remind_task, "apply_async", lambda *_: sent_at.append(timezone.now())
    )

    for day in (30, 53, 54):
        with django_capture_on_commit_callbacks(execute=True):
            suspended.review(day)

    assert sent_at == [NOW + timedelta(days=30), NOW + timedelta(days=53)]


def test_reminder_repeats_the_notice_of_the_suspension(clock):
    suspended = Suspended(clock)
    clock.move_to(NOW + timedelta(days=30))

    assert remind_of_debt(tenant_id=suspended.tenant.pk)

    first, again = suspensions()
    assert (first.state, again.state) == ("dropped", "waiting")
    assert again.text.count("/pay/") == 1


def test_reminder_comes_once_for_all_relays_of_a_tenant(clock):
    suspended = Suspended(clock)
    clock.move_to(NOW + timedelta(days=30))
    remind_of_debt(tenant_id=suspended.tenant.pk)

    assert not remind_of_debt(tenant_id=suspended.tenant.pk)
    assert len(suspensions()) == 2


def test_nobody_is_reminded_of_what_is_paid(clock):
    suspended = Suspended(clock)
    suspended.pay()
    clock.move_to(NOW + timedelta(days=30))

    assert not remind_of_debt(tenant_id=suspended.tenant.pk)


def test_tenant_with_two_debts_is_reminded_of_the_oldest(clock):
    suspended = Suspended(clock)
    InvoiceCollectionFactory(tenant=suspended.tenant, created_at=NOW)
    clock.move_to(NOW + timedelta(days=30))

    remind_of_debt(tenant_id=suspended.tenant.pk)

    assert suspensions()[-1].subject == suspended.invoice.pk
    assert Tenant.objects.get().payment_overdue_since
