"""Relays that lines of past invoices were for."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from relays.models import Plan, Relay
from relays.services import history
from relays.services.activities import record_relay_activity
from relays.services.history import RelayHistory
from relays.services.lifecycle import (
    activate_relay,
    change_plan,
    create_relay,
    deactivate_relay,
    update_relay,
)
from tenants.models import Activity
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
    update_relay(relay_id=relay, name="First")
    update_relay(relay_id=relay, name="The first")
    assert billed(tenant, 1, timezone.now()) == ["first"]

    deactivate_relay(relay_id=relay)
    activate_relay(relay_id=relay)

    assert billed(tenant, 1, timezone.now()) == []


# --- relays that were never served


@pytest.fixture
def served_only(settings):
    settings.BILLING_SERVED_RELAYS_ONLY = True


def prove(relay_id):
    """Record a proof as a sync does."""
    relay = Relay.objects.get(pk=relay_id)
    relay.first_served_at = relay.first_served_at or timezone.now()
    relay.save(update_fields=["first_served_at"])
    record_relay_activity(relay, Activity.Type.COMPLETE_RELAY_SYNC)


def test_relay_is_billed_from_its_first_proof(tenant, hours, served_only):
    prove(create(tenant, "first"))
    second = create(tenant, "second")
    hours.shift(timedelta(hours=1))
    before = timezone.now()
    assert billed(tenant, 1, before) == ["first"]
    assert billed(tenant, 2, before) == []

    hours.shift(timedelta(hours=1))
    prove(second)

    assert billed(tenant, 2, timezone.now()) == ["first", "second"]
    assert billed(tenant, 1, before) == ["first"]


def test_proof_counts_for_the_plan_of_that_time(tenant, hours, served_only):
    relay = create(tenant, "first")
    change_plan(relay_id=relay, plan_id="growth")
    hours.shift(timedelta(hours=1))
    prove(relay)

    assert billed(tenant, 1, timezone.now(), "growth") == ["first"]
    assert billed(tenant, 1, timezone.now()) == []


def test_relay_that_went_off_before_its_proof_is_not_named(tenant, served_only):
    relay = create(tenant, "first")
    deactivate_relay(relay_id=relay)
    prove(relay)

    assert billed(tenant, 1, timezone.now()) == []


def test_relay_is_named_after_it_was_off(tenant, hours, served_only):
    relay = create(tenant, "first")
    prove(relay)
    hours.shift(timedelta(hours=1))
    deactivate_relay(relay_id=relay)
    activate_relay(relay_id=relay)

    assert billed(tenant, 1, timezone.now()) == ["first"]


def test_syncs_of_each_edit_do_not_hide_the_relays(tenant, served_only, monkeypatch):
    monkeypatch.setattr(history, "_MAX_CHANGES", 2)
    relay = create(tenant, "first")

    for _ in range(3):
        prove(relay)

    assert billed(tenant, 1, timezone.now()) == ["first"]


def test_proof_after_the_invoice_does_not_count(tenant, hours, served_only):
    relay = create(tenant, "first")
    at = timezone.now()
    hours.shift(timedelta(hours=1))
    prove(relay)

    assert (
        RelayHistory(tenant.pk, until=at).billed(plan_id="basic", quantity=1, at=at)
        == []
    )
