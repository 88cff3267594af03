"""Dates in the row, as the lifecycle sets and clears them."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from relays.models import Relay
from relays.services import lifecycle
from relays.services.end_of_life import schedule
from relays.services.end_of_life.review import review_relay
from relays.tests.factories import RelayFactory
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def relay(clock):
    return RelayFactory(tenant=TenantFactory(payment_overdue_since=NOW))


def suspend(relay) -> Relay:
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    return stored(relay)


def stored(relay) -> Relay:
    return Relay.objects.get(pk=relay.pk)


def dates(relay) -> tuple[datetime | None, ...]:
    row = stored(relay)
    return row.delinquent_since, row.export_offer_at, row.deletion_at


def on_day(days) -> datetime:
    return NOW + timedelta(days=days)


def test_suspended_relay_has_the_dates_of_the_settings(relay):
    suspend(relay)

    assert dates(relay) == (NOW, on_day(30), on_day(60))


def test_other_settings_set_other_dates(relay, settings):
    settings.RELAY_EXPORT_DAYS, settings.RELAY_DELETE_DAYS = 7, 10

    suspend(relay)

    assert dates(relay) == (NOW, on_day(7), on_day(10))


def test_without_deletion_the_relay_has_no_date_for_it(relay, settings):
    settings.RELAY_DELETION = False

    suspend(relay)

    assert dates(relay) == (NOW, on_day(30), None)


def test_relay_of_a_paused_subscription_has_no_dates(relay):
    Tenant.objects.update(billing_on_hold_since=NOW, payment_overdue_since=None)

    suspend(relay)

    assert dates(relay) == (NOW, None, None)


def test_relay_with_a_debt_has_dates_also_while_billing_is_on_hold(relay):
    Tenant.objects.update(billing_on_hold_since=NOW, payment_overdue_since=NOW)

    suspend(relay)

    assert dates(relay) == (NOW, on_day(30), on_day(60))


@pytest.mark.parametrize(
    "end",
    [
        lifecycle.reactivate_relay,
        lifecycle.deactivate_relay,
        lifecycle.delete_relay,
        lambda relay_id: lifecycle.change_plan(relay_id=relay_id, plan_id="free"),
    ],
    ids=["reactivate", "deactivate", "delete", "free plan"],
)
def test_end_of_the_suspension_clears_the_dates_and_drops_notices(relay, end, clock):
    suspend(relay)
    for day in (30, 53):
        clock.move_to(on_day(day))
        review_relay(relay_id=relay.pk, now=timezone.now())
    before = stored(relay)
    assert before.export_offered_at and before.deletion_notice

    end(relay_id=relay.pk)

    after = stored(relay)
    assert [getattr(after, name) for name in schedule.FIELDS] == [None] * 5
    assert {*Notice.objects.values_list("kind", "state")} == {
        ("relay_export_offer", "dropped"),
        ("relay_deletion", "dropped"),
    }


def test_next_suspension_has_dates_of_its_own(relay, clock):
    suspend(relay)
    clock.move_to(on_day(20))
    lifecycle.reactivate_relay(relay_id=relay.pk)
    clock.move_to(on_day(40))

    suspend(relay)

    assert dates(relay) == (on_day(40), on_day(70), on_day(100))


def test_change_of_a_suspended_relay_leaves_its_dates(relay, clock):
    suspend(relay)
    before = dates(relay)
    clock.move_to(on_day(10))

    lifecycle.update_relay(relay_id=relay.pk, name="The Nest")

    assert dates(relay) == before
