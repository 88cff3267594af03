"""Upgrade of an installation whose relays nobody has provisioned yet."""

from datetime import timedelta
from importlib import import_module

import pytest
import time_machine
from django.apps import apps
from django.utils import timezone

from billing.tests.support.subscriptions import add_relay, live_items, sync
from relays.models import Relay, RelaySync
from relays.services import lifecycle
from relays.services.end_of_life.review import review_relay
from relays.tests.factories import RelayFactory
from tenants.models import Notice
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

MIGRATION = import_module("relays.migrations.0008_existing_relays")


def upgrade() -> None:
    """Migrate relays as earlier versions had them, with the settings of production."""
    RelaySync.objects.all().delete()
    Relay.objects.update(
        first_served_at=None,
        delinquent_since=None,
        export_offer_at=None,
        deletion_at=None,
    )
    for operation in MIGRATION.Migration.operations:
        operation.code(apps, None)


def test_subscription_is_not_touched(sandbox, prices, settings):
    tenant = TenantFactory()
    add_relay(tenant)
    sync(tenant)
    before = live_items(sandbox, tenant), len(sandbox.requests())
    settings.BILLING_SERVED_RELAYS_ONLY = True

    upgrade()
    sync(tenant)

    sent = sandbox.requests()[before[1] :]
    assert {each["method"] for each in sent} == {"GET"}
    assert live_items(sandbox, tenant) == before[0]


def test_all_but_deleted_relays_are_sent_to_zooid(priced_plans):
    active, off = RelayFactory(), RelayFactory(status="inactive")
    deleted = lifecycle.delete_relay(relay_id=RelayFactory().pk)

    upgrade()

    assert {sync.pk for sync in RelaySync.objects.stale()} == {active.pk, off.pk}
    deleted.refresh_from_db()
    # Lines of past invoices name it.
    assert deleted.first_served_at == deleted.created_at


def test_suspended_relay_keeps_the_date_since_which_it_is_off(priced_plans):
    since = timezone.now()
    with time_machine.travel(since, tick=False):
        relay = RelayFactory(tenant=TenantFactory(payment_overdue_since=since))
        lifecycle.mark_relay_delinquent(relay_id=relay.pk)
    upgrade()
    now = since + timedelta(days=100)

    review_relay(relay_id=relay.pk, now=now)

    relay.refresh_from_db()
    assert relay.delinquent_since == since
    assert relay.deletion_at == now + timedelta(days=60)
    assert not Notice.objects.exists()
