from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.utils import timezone

from billing.models import InvoiceCollection, StripeCursor
from billing.services.dunning.suspension import review_tenant
from billing.tests.factories import InvoiceCollectionFactory
from relays.models import Relay
from relays.services.end_of_life.dates import Step
from relays.services.end_of_life.review import review_relay
from relays.tests.factories import RelayFactory
from tenants.models import Notice
from tenants.tests.factories import TenantFactory

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
Traveller = time_machine.Traveller


class Suspended:
    """Relay that an overdue invoice switched off."""

    def __init__(self, clock: Traveller, subdomain: str = "nest") -> None:
        self.clock = clock
        tenant = TenantFactory(
            stripe_customer_id=f"cus_{subdomain}",
            stripe_subscription_id=f"sub_{subdomain}",
        )
        self.pk = RelayFactory(tenant=tenant, subdomain=subdomain).pk
        self.tenant = tenant
        self.invoice: InvoiceCollection = InvoiceCollectionFactory(
            tenant=tenant, created_at=NOW - timedelta(days=7)
        )
        review_tenant(tenant_id=tenant.pk)

    @property
    def row(self) -> Relay:
        return Relay.objects.get(pk=self.pk)

    def review(self, day: float) -> Step:
        """Review on a day after the suspension; Stripe's events are read until then."""
        self.clock.move_to(NOW + timedelta(days=day))
        read_events()
        return review_relay(relay_id=self.pk, now=timezone.now())

    def change_invoice(self, **columns: object) -> None:
        InvoiceCollection.objects.filter(pk=self.invoice.pk).update(**columns)

    def pay(self) -> None:
        self.change_invoice(stripe_status="paid", amount_remaining_cents=0)


def read_events() -> None:
    """Record that Stripe's events have been read until now, and a little longer."""
    columns = {"read_until": timezone.now() + timedelta(minutes=10)}
    StripeCursor.objects.update_or_create(pk="events", defaults=columns)


def accept_notices(**filters: object) -> None:
    """Have a Nostr relay accept the notices that wait."""
    now = timezone.now()
    waiting = Notice.objects.waiting().filter(**filters)
    waiting.update(dm_sent_at=now, sent_at=now, state=Notice.State.SENT)


@pytest.fixture
def clock() -> Iterator[Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def relay(clock: Traveller, db: None) -> Suspended:
    """A suspended relay, about to be deleted on day 60: its owner was warned."""
    suspended = Suspended(clock)
    for day in (30, 53):
        suspended.review(day)
        accept_notices()
    return suspended
