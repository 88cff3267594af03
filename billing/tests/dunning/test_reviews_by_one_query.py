"""One statement instead of a review or a refresh: it must have the same effect."""

import random
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone

from billing.models import Credit, InvoiceCollection, SubscriptionSync
from billing.services.credits.posting import record_credit
from billing.services.dunning.payment_block import (
    read_payment_block,
    refresh_payment_block,
)
from billing.services.dunning.suspension import review_if_needed, review_tenant
from billing.tests.factories import InvoiceCollectionFactory
from lightning.models import LightningInvoice, NwcPayment
from relays.models import Relay
from relays.tests.factories import RelayFactory
from tenants.models import Notice, Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

STATES = 25


@pytest.fixture(autouse=True)
def _time_stands_still():
    """Let both ways write the same times."""
    with time_machine.travel(timezone.now(), tick=False):
        yield


class Chance(random.Random):
    def time(self) -> Any:
        """Return a time within two weeks."""
        return timezone.now() + timedelta(hours=self.randint(-336, 336))

    def maybe(self, value: Any, otherwise: Any = None) -> Any:
        return value if self.random() < 0.4 else otherwise


def make_tenant(chance: Chance) -> Tenant:
    tenant = TenantFactory(
        dunning_exempt=chance.random() < 0.15,
        stripe_customer_id="cus_1",
        stripe_subscription_id=chance.choice(["sub_1", None]),
        payment_overdue_since=chance.maybe(timezone.now()),
        billing_on_hold_since=chance.maybe(timezone.now()),
        closed_at=chance.maybe(timezone.now()),
        nwc_url=chance.maybe("nostr+walletconnect://x", ""),
    )
    SubscriptionSync.objects.create(
        tenant=tenant,
        paused_at=chance.maybe(chance.time()),
        # A pause of another subscription is over.
        paused_subscription_id=chance.choice(["sub_1", "sub_1", "sub_0"]),
    )
    for _ in range(chance.choice([0, 1, 1, 2])):
        make_invoice(chance, tenant)
    if relays := chance.choice([0, 1]):
        RelayFactory.create_batch(relays, tenant=tenant)
        Relay.objects.filter(tenant=tenant).update(
            status=chance.choice(["active", "inactive", "delinquent"])
        )
    first = InvoiceCollection.objects.filter(tenant=tenant).first()
    since = chance.choice([None, first and first.finalized_at, chance.time()])
    Tenant.objects.filter(pk=tenant.pk).update(past_due_at=since)
    if chance.random() < 0.2:
        record_credit(
            tenant_id=tenant.pk,
            reason=Credit.Reason.SURPLUS,
            source=tenant.pk,
            currency="usd",
            amount_cents=1,
        )
    return tenant


def make_invoice(chance: Chance, tenant: Tenant) -> None:
    status = chance.choice(["draft", "open", "open", "paid", "void", "uncollectible"])
    hold = {"draft": ["", "refused"], "uncollectible": ["", "written_off"]}
    suspend_at = chance.time()
    invoice = InvoiceCollectionFactory(
        tenant=tenant,
        stripe_status=status,
        state=chance.choice(["collecting", "manual", "pending"]),
        hold=chance.choice(hold.get(status, [""])),
        total_cents=chance.choice([500, -500]),
        amount_remaining_cents=chance.choice([500, 500, 0]),
        dispute_debt_cents=chance.choice([0, 0, 0, 500]),
        attempts_started=chance.choice([0, 1, 2]),
        suspend_at=suspend_at,
        finalized_at=chance.maybe(None, suspend_at - timedelta(days=7)),
        created_at=suspend_at - timedelta(days=7),
        intent_status=chance.choice(["", "", "processing"]),
        intent_since=chance.time(),
    )
    if chance.random() < 0.4:
        make_bolt11(chance, invoice)
    if chance.random() < 0.2:
        Notice.objects.create(
            tenant=tenant, kind="reminder_3", subject=invoice.pk, text="x"
        )


def make_bolt11(chance: Chance, invoice: InvoiceCollection) -> None:
    # Around the time from which a silent wallet leaves open whether it was paid.
    issued_at = timezone.now() - timedelta(hours=chance.choice([0, 1, 24, 240]))
    bolt11 = LightningInvoice.objects.create(
        tenant=invoice.tenant,
        stripe_invoice_id=invoice.pk,
        amount_cents=500,
        currency="usd",
        amount_msat=1000,
        rate=1,
        payment_hash=f"{chance.getrandbits(256):064x}",
        issued_at=issued_at,
        expires_at=issued_at + timedelta(hours=1),
        state=chance.choice(["open", "expired", "dead"]),
        contradicted_at=chance.maybe(timezone.now()),
    )
    if chance.random() < 0.4:
        NwcPayment.objects.create(
            tenant=invoice.tenant,
            invoice=bolt11,
            stripe_invoice_id=invoice.pk,
            proven_at=chance.maybe(timezone.now()),
        )


def disturb(chance: Chance, tenant: Tenant) -> None:
    """Change one thing that a review may have to react to."""
    invoices = InvoiceCollection.objects.filter(tenant=tenant)
    sync = SubscriptionSync.objects.filter(pk=tenant.pk)
    columns: list[dict[str, Any]] = [
        {"closed_at": timezone.now(), "nwc_url": "nostr+walletconnect://x"},
        {"dunning_exempt": True},
        {"stripe_subscription_id": None},
    ]
    changes = [
        lambda: Relay.objects.filter(tenant=tenant).update(
            status=chance.choice(["active", "delinquent"])
        ),
        lambda: sync.update(paused_at=chance.choice([None, timezone.now()])),
        lambda: Tenant.objects.filter(pk=tenant.pk).update(**chance.choice(columns)),
        lambda: invoices.update(
            **chance.choice(
                [
                    {"suspend_at": chance.time()},
                    {"dispute_debt_cents": 500},
                    {"stripe_status": "paid", "dispute_debt_cents": 0},
                    {"intent_status": "processing"},
                    {"attempts_started": 2},
                ]
            )
        ),
        lambda: None,
    ]
    chance.choice(changes)()


@contextmanager
def undone():
    """Undo what the block has written."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def effect(tenant: Tenant, work: Any) -> Any:
    """Run work on a tenant and undo it; return its result and the rows it has left."""
    with undone():
        result = work(tenant_id=tenant.pk)
        tables = (Tenant, SubscriptionSync, InvoiceCollection, Relay, Notice, Credit)
        return result, [_rows(model, tenant) for model in tables]


def _rows(model: Any, tenant: Tenant) -> list[Any]:
    key = "pk" if model is Tenant else "tenant"
    rows = model.objects.filter(**{key: tenant.pk}).order_by("pk").values()
    return [{**row, "id": None} for row in rows]


@pytest.mark.parametrize("seed", range(6))
def test_review_if_needed_has_the_effect_of_a_review(seed):
    chance = Chance(seed)
    for _ in range(STATES):
        with undone():
            tenant = make_tenant(chance)
            if chance.random() < 0.8:
                review_tenant(tenant_id=tenant.pk)
                Notice.objects.filter(tenant=tenant).delete()
                disturb(chance, tenant)

            _, expected = effect(tenant, review_tenant)
            _, found = effect(tenant, review_if_needed)

            assert found == expected


@pytest.mark.parametrize("seed", range(6))
def test_payment_block_that_is_read_has_the_effect_of_one_that_is_refreshed(seed):
    chance = Chance(seed)
    for _ in range(STATES):
        with undone():
            tenant = make_tenant(chance)

            assert effect(tenant, read_payment_block) == effect(
                tenant, refresh_payment_block
            )
