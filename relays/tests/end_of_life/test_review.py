"""Review of suspended relays: all but the deletion, which billing can hold up."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
import time_machine
from django.utils import timezone

from relays.models import Relay
from relays.services import lifecycle
from relays.services.end_of_life import schedule
from relays.services.end_of_life.dates import Step, next_step
from relays.services.end_of_life.review import due_relays, review_relay
from relays.services.exports.links import export_url
from relays.tests.factories import RelayFactory
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MONTH = timedelta(days=30)


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def relay(clock):
    tenant = TenantFactory(
        time_zone="America/New_York", payment_overdue_since=NOW - MONTH
    )
    relay = RelayFactory(tenant=tenant, subdomain="nest", first_served_at=NOW)
    return lifecycle.mark_relay_delinquent(relay_id=relay.pk)


def on_day(days) -> datetime:
    return NOW + timedelta(days=days)


def review(relay, clock=None, day=None) -> Step:
    """Review; check that beat would have found the relay if anything is done."""
    if clock:
        clock.move_to(on_day(day))
    is_due = relay.pk in due_relays(now=timezone.now())
    step = review_relay(relay_id=relay.pk, now=timezone.now())
    assert is_due or step == Step.WAIT
    return step


def stored(relay) -> Relay:
    return Relay.objects.get(pk=relay.pk)


def notice(kind) -> Notice:
    return Notice.objects.get(kind=kind)


def test_relay_is_not_due_before_its_dates(relay, clock):
    assert review(relay, clock, 29) == Step.WAIT
    assert due_relays(now=timezone.now()) == []


def test_owner_is_offered_an_export_with_the_date_in_their_time_zone(
    relay, clock, settings
):
    assert review(relay, clock, 30) == Step.OFFER_EXPORT

    text = notice("relay_export_offer").text
    assert f"relay nest.{settings.RELAY_DOMAIN} has been off" in text
    assert "since 30 November 2026" in text
    assert "still off on 29 January 2027, 07:00 UTC-5, we delete it" in text
    assert export_url(relay).rsplit(".", 1)[0] in text


def test_offer_is_made_once(relay, clock):
    review(relay, clock, 30)

    assert review(relay, clock, 31) == Step.WAIT
    assert Notice.objects.count() == 1


def test_late_offer_names_the_date_that_holds_now(relay, clock):
    review(relay, clock, 45)

    assert stored(relay).deletion_at == on_day(75)
    assert "13 February 2027, 07:00" in notice("relay_export_offer").text


def test_offer_without_deletion_names_no_date(relay, clock, settings):
    settings.RELAY_DELETION = False

    review(relay, clock, 30)

    assert stored(relay).deletion_at is None
    assert "delete" not in notice("relay_export_offer").text


def test_owner_of_a_relay_that_never_ran_is_offered_no_export(relay, clock):
    Relay.objects.update(first_served_at=None)

    review(relay, clock, 30)
    review(relay, clock, 53)

    offer, warning = notice("relay_export_offer"), notice("relay_deletion")
    assert offer.title == "Your relay nest is off"
    assert "unpaid invoice. If it is still off on 29 January 2027" in offer.text
    assert "its name is free then. It is not deleted, and comes back" in warning.text
    assert "export" not in offer.text + warning.text


def test_owner_is_warned_a_week_before(relay, clock):
    review(relay, clock, 30)

    assert review(relay, clock, 53) == Step.ANNOUNCE_DELETION
    warning = notice("relay_deletion")
    assert warning.title == (
        "Your relay nest will be deleted on 29 January 2027, 07:00 UTC-5"
    )
    assert stored(relay).deletion_notice == warning
    assert review(relay, clock, 54) == Step.WAIT


def test_deletion_that_nobody_was_told_of_is_postponed_and_reported(
    relay, clock, caplog
):
    review(relay, clock, 30)
    review(relay, clock, 53)

    assert review(relay, clock, 60) == Step.POSTPONE
    (alert,) = [
        record.msg
        for record in caplog.records
        if isinstance(record.msg, dict)
        and record.msg["event"] == "deletion_not_announced"
    ]
    assert (alert["relay"], alert["tenant"]) == (relay.pk, relay.tenant_id)
    after = stored(relay)
    assert (after.deletion_at, after.deletion_notice) == (on_day(90), None)
    # Otherwise it could still arrive, with a date that does not hold.
    assert notice("relay_deletion").state == "dropped"


def test_notice_that_was_given_up_postpones_the_deletion(relay, clock):
    review(relay, clock, 30)
    review(relay, clock, 53)
    Notice.objects.update(state="failed")

    assert review(relay, clock, 60) == Step.POSTPONE


def test_postponed_deletion_is_announced_again(relay, clock):
    for day in (30, 53, 60):
        review(relay, clock, day)

    assert review(relay, clock, 83) == Step.ANNOUNCE_DELETION
    warnings = Notice.objects.filter(kind="relay_deletion").order_by("pk")
    assert [each.state for each in warnings] == ["dropped", "waiting"]
    assert "28 February 2027" in warnings[1].text


def test_relay_waits_while_billing_does_not_know_of_all_payments(relay, clock):
    review(relay, clock, 30)
    review(relay, clock, 53)
    Notice.objects.update(dm_sent_at=on_day(53))

    assert review(relay, clock, 60) == Step.WAIT
    assert stored(relay).deleted_at is None


def test_switching_deletion_off_takes_the_date_and_the_warning_back(
    relay, clock, settings
):
    review(relay, clock, 30)
    review(relay, clock, 53)
    settings.RELAY_DELETION = False

    review(relay)

    assert stored(relay).deletion_at is None
    assert notice("relay_deletion").state == "dropped"
    assert review(relay, clock, 400) == Step.WAIT
    assert due_relays(now=timezone.now()) == []


def test_switching_deletion_on_sets_a_date_ahead(relay, clock, settings):
    settings.RELAY_DELETION = False
    review(relay, clock, 30)
    review(relay, clock, 400)
    settings.RELAY_DELETION = True

    assert review(relay) == Step.OFFER_EXPORT
    assert stored(relay).deletion_at == on_day(430)
    offers = Notice.objects.filter(kind="relay_export_offer").order_by("pk")
    assert [each.state for each in offers] == ["dropped", "waiting"]
    assert "3 February 2028" in offers[1].text


@pytest.mark.parametrize(
    "columns",
    [{"billing_on_hold_since": NOW}, {}],
    ids=["paused", "paid, and waiting for a credit"],
)
def test_end_of_the_debt_clears_the_dates_of_a_relay_that_stays_off(
    relay, clock, columns
):
    review(relay, clock, 30)
    Tenant.objects.update(payment_overdue_since=None, **columns)

    assert review(relay, clock, 31) == Step.WAIT
    assert stored(relay).deletion_at is None
    assert notice("relay_export_offer").state == "dropped"
    assert review(relay, clock, 400) == Step.WAIT
    assert due_relays(now=timezone.now()) == []


def test_debt_after_a_pause_sets_dates_from_then_on(clock):
    tenant = TenantFactory(billing_on_hold_since=NOW)
    relay = RelayFactory(tenant=tenant)
    lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    Tenant.objects.update(payment_overdue_since=on_day(10))

    review(relay, clock, 10)

    after = stored(relay)
    assert (after.export_offer_at, after.deletion_at) == (on_day(40), on_day(70))


def test_relay_suspended_before_there_were_dates_gets_them_from_now_on(relay, clock):
    columns = ("delinquent_since", "export_offer_at", "deletion_at")
    Relay.objects.update(**dict.fromkeys(columns))

    review(relay, clock, 300)

    assert stored(relay).deletion_at == on_day(360)
    assert review(relay, clock, 330) == Step.OFFER_EXPORT
    assert "has been off because" in notice("relay_export_offer").text


@pytest.mark.parametrize("status", ["active", "inactive"])
def test_relay_that_is_not_suspended_is_left_alone(relay, clock, status):
    Relay.objects.update(status=status)

    assert review(relay, clock, 60) == Step.WAIT
    assert not Notice.objects.exists()


def test_relay_deleted_meanwhile_is_left_alone(relay, clock):
    lifecycle.delete_relay(relay_id=relay.pk)

    assert review(relay, clock, 60) == Step.WAIT


def test_review_looks_only_at_relays_for_which_something_is_due(relay, settings):
    """Compare the filter with the rule for every kind of row."""
    past, soon, later = NOW - MONTH, NOW + timedelta(days=3), NOW + MONTH
    offers, offered, ends = (None, past, later), (None, past), (None, past, soon, later)
    warning = Notice.objects.create(
        tenant=relay.tenant, kind="relay_deletion", subject="x", dm_sent_at=past
    )
    rows = product(offers, offered, ends, (None, warning), (True, False))
    for offer_at, offered_at, deletion_at, told, deletes in rows:
        settings.RELAY_DELETION = deletes
        relay.export_offer_at, relay.export_offered_at = offer_at, offered_at
        relay.deletion_at, relay.deletion_notice = deletion_at, told
        schedule.save_dates(relay)
        dates = schedule.dates_of(relay)

        step, after = next_step(dates, NOW, schedule.terms())

        is_idle = step == Step.WAIT and after == dates
        if deletion_at or not told:  # a warning without a date cannot be
            assert (due_relays(now=NOW) == []) == is_idle, dates
