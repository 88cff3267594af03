"""Relays that lines of past invoices were for."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from relays.models import Plan
from relays.services import history
from relays.services.history import RelayHistory
from relays.services.lifecycle import (
    change_plan,
    create_relay,
    deactivate_relay,
    update_relay,
)
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def hours() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


@pytest.fixture
def tenant(db):
    Plan.objects.paid().update(stripe_price_id=None)
    for plan in Plan.objects.paid():
        plan.stripe_price_id = f"price_{plan.pk}"
        plan.save()
    return TenantFactory()


def create(tenant, subdomain, plan="basic"):
    return create_relay(tenant_id=tenant.pk, subdomain=subdomain, plan_id=plan).pk


def billed(tenant, quantity, at: datetime, plan="basic") -> list[str]:
    past = RelayHistory(tenant.pk, until=timezone.now())
    return past.billed(plan_id=plan, quantity=quantity, at=at)


def test_relays_are_those_of_the_plan_at_that_time(tenant, hours):
    first, _ = create(tenant, "first"), create(tenant, "big", "growth")
    one_relay = timezone.now()
    hours.shift(timedelta(hours=1))
    create(tenant, "second")
    two_relays = timezone.now()
    hours.shift(timedelta(hours=1))
    deactivate_relay(relay_id=first)

    assert billed(tenant, 1, one_relay) == ["first"]
    assert billed(tenant, 2, two_relays) == ["first", "second"]
    assert billed(tenant, 1, timezone.now()) == ["second"]
    assert billed(tenant, 1, two_relays, "growth") == ["big"]


def test_unused_time_is_of_the_relays_before_the_change(tenant, hours):
    relay = create(tenant, "first")
    hours.shift(timedelta(hours=1))
    change_plan(relay_id=relay, plan_id="growth")

    assert billed(tenant, 1, timezone.now()) == ["first"]
    assert billed(tenant, 1, timezone.now(), "growth") == ["first"]


def test_no_relay_is_named_if_the_number_never_fits(tenant):
    create(tenant, "first")

    assert billed(tenant, 2, timezone.now()) == []
    assert billed(tenant, 1, timezone.now() - timedelta(days=1)) == []
    assert billed(tenant, 0, timezone.now(), plan="") == []


def test_time_at_stripe_may_be_a_moment_earlier(tenant):
    create(tenant, "first")

    assert billed(tenant, 1, timezone.now().replace(microsecond=0)) == ["first"]


def test_relay_has_its_present_name(tenant):
    update_relay(relay_id=create(tenant, "first"), subdomain="renamed")

    assert billed(tenant, 1, timezone.now()) == ["renamed"]


def test_no_relay_is_named_after_very_many_changes(tenant, monkeypatch):
    relay = create(tenant, "first")
    monkeypatch.setattr(history, "_MAX_CHANGES", 2)
    assert billed(tenant, 1, timezone.now()) == ["first"]

    for name in ("second", "third"):
        update_relay(relay_id=relay, subdomain=name)

    assert billed(tenant, 1, timezone.now()) == []
