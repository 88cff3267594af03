"""Random histories of payment and suspension, with all tables and notices."""

from collections import Counter
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from django.utils import timezone

from billing.services.customers.closing import close_tenant
from billing.services.dunning.suspension import review_tenant
from billing.tests.deletions.conftest import (
    NOW,
    Suspended,
    Traveller,
    accept_notices,
    read_events,
)
from caravel.tests.support.celery_tasks import run_each
from caravel.tests.support.search import examples
from relays.models import Relay
from relays.services import lifecycle
from relays.tasks import review_suspended_relay, review_suspended_relays
from tenants.models import Notice, Tenant
from tenants.services.notice_texts import format_time

pytestmark = pytest.mark.django_db

RELAYS = examples(100)
#: Share of the relays to which something happens between two reviews.
CHANGES = 0.03
STEPS = 160


class World:
    """Many relays whose owners pay late, or never; beat, Stripe and Nostr fail."""

    def __init__(self, clock: Traveller, seed: int) -> None:
        self.clock, self.random = clock, Random(seed)
        names = [f"nest{number}" for number in range(RELAYS)]
        self.relays = [Suspended(clock, name) for name in names]
        self.rows: dict[UUID, Relay] = {}
        self.outcomes: Counter[str] = Counter()
        #: Relays that are served, or not delinquent, were not shown a date since then.
        self.shown: dict[UUID, list[datetime]] = {each.pk: [] for each in self.relays}

    def run(self) -> None:
        actions = [self.pay, self.owe, self.owe, self.pause, self.end_pause]
        actions += [self.owe, self.switch_off, self.move_deadline, self.dispute]
        actions += [self.exempt, self.end_exemption, self.leave]
        for _ in range(STEPS):
            self.clock.shift(timedelta(hours=self.random.choice([1, 6, 20, 23])))
            for relay in self.random.sample(self.relays, int(RELAYS * CHANGES)):
                if self.rows and not self.rows[relay.pk].deleted_at:
                    self.random.choice(actions)(relay)
            self.run_services()

    def run_services(self) -> None:
        if self.random.random() < 0.9:
            read_events()
        if self.random.random() < 0.9:
            self.look()
            review_suspended_relays()
        self.look()
        if self.random.random() < 0.8:
            self.deliver()

    def pay(self, relay: Suspended) -> None:
        relay.pay()
        if self.random.random() < 0.5:
            review_tenant(tenant_id=relay.tenant.pk)

    def owe(self, relay: Suspended) -> None:
        columns = {"stripe_status": "open", "amount_remaining_cents": 500}
        relay.change_invoice(**columns, dispute_debt_cents=0)
        review_tenant(tenant_id=relay.tenant.pk)

    def move_deadline(self, relay: Suspended) -> None:
        relay.change_invoice(suspend_at=timezone.now() + timedelta(days=3))
        review_tenant(tenant_id=relay.tenant.pk)

    def pause(self, relay: Suspended) -> None:
        own = Tenant.objects.filter(pk=relay.tenant.pk)
        own.update(billing_on_hold_since=timezone.now())

    def end_pause(self, relay: Suspended) -> None:
        own = Tenant.objects.filter(pk=relay.tenant.pk)
        own.update(billing_on_hold_since=None)

    def switch_off(self, relay: Suspended) -> None:
        if self.random.random() < 0.2 and relay.row.status == "delinquent":
            lifecycle.deactivate_relay(relay_id=relay.pk)

    def dispute(self, relay: Suspended) -> None:
        relay.pay()
        relay.change_invoice(dispute_debt_cents=500)
        review_tenant(tenant_id=relay.tenant.pk)

    def exempt(self, relay: Suspended) -> None:
        Tenant.objects.filter(pk=relay.tenant.pk).update(dunning_exempt=True)
        if self.random.random() < 0.5:
            review_tenant(tenant_id=relay.tenant.pk)

    def end_exemption(self, relay: Suspended) -> None:
        Tenant.objects.filter(pk=relay.tenant.pk).update(dunning_exempt=False)

    def leave(self, relay: Suspended) -> None:
        """Move to the free plan, or close the account."""
        if self.random.random() < 0.1:
            lifecycle.change_plan(relay_id=relay.pk, plan_id="free")
        elif self.random.random() < 0.1:
            close_tenant(tenant_id=relay.tenant.pk)

    def deliver(self) -> None:
        for pk in Notice.objects.waiting().values_list("pk", flat=True):
            if self.random.random() < 0.9:
                accept_notices(pk=pk)

    def look(self) -> None:
        """Check what has changed, as the owners see it in the API."""
        for pk, row in (
            Relay.objects.select_related("deletion_notice").in_bulk().items()
        ):
            if row.deleted_at and not self.rows[pk].deleted_at:
                self.check_deletion(self.rows[pk], row.deleted_at)
            self.see(pk, row.deletion_at)
            self.rows[pk] = row

    def see(self, pk: UUID, deletion_at: datetime | None) -> None:
        if deletion_at is None:
            self.shown[pk].clear()
        else:
            assert not self.shown[pk] or deletion_at >= self.shown[pk][-1]
            self.shown[pk].append(deletion_at)

    def check_deletion(self, before: Relay, deleted_at: datetime) -> None:
        """Check that it came on the date that the API and the notices gave."""
        self.outcomes["deleted"] += 1
        deletion_at, warning = self.shown[before.pk][-1], before.deletion_notice
        assert deletion_at == before.deletion_at
        assert deletion_at <= deleted_at < deletion_at + timedelta(days=1)
        assert before.delinquent_since and warning and warning.dm_sent_at
        assert deleted_at >= before.delinquent_since + timedelta(days=60)
        assert format_time(deletion_at, before.tenant) in warning.text
        assert warning.dm_sent_at <= deletion_at - timedelta(days=3.5)
        invoice = before.tenant.collections.get()
        assert invoice.owed_cents and not before.tenant.dunning_exempt
        assert invoice.suspend_at and invoice.suspend_at <= deleted_at
        offers = Notice.objects.filter(tenant=before.tenant, kind="relay_export_offer")
        last = offers.exclude(state="dropped").latest("created_at")
        assert last.created_at <= deleted_at - timedelta(days=30)


@pytest.mark.search
def test_no_relay_is_deleted_before_its_announced_date(clock, monkeypatch):
    run = run_each(review_suspended_relay)
    monkeypatch.setattr(review_suspended_relay, "delay_many", run)
    world = World(clock, seed=1)

    world.run()

    assert timezone.now() > NOW + timedelta(days=70)
    # The search would prove nothing if all relays were kept, or deleted.
    assert 0.1 * RELAYS < world.outcomes["deleted"] < 0.9 * RELAYS
