"""Drifts between a tenant's rows and Stripe that no webhook or receiver reports."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import stripe
from django.db.models import F
from django.utils import timezone

from billing.models import InvoiceCollection, StripeWrite, SubscriptionSync
from billing.services.stripe_writes.cancellations import mark_changed
from billing.services.stripe_writes.writes import create_write
from billing.tests.support.holds import pause_subscription
from billing.tests.support.subscriptions import (
    add_relay,
    create_subscription_at_stripe,
    rewrite_subscription,
)
from caravel.core.db.leases import LeasedItem
from relays.models import Plan, Relay
from sandbox.stripe.client.testing import Sandbox
from sandbox.tests.support.stripe import builders
from tenants.models import Tenant

#: Columns that say how a row is worked on, not what it has.
_BOOKKEEPING = {field.name for field in LeasedItem._meta.get_fields()} | {
    "synced_at",
    "stale_since",
}


@dataclass
class Subject:
    """A tenant whose rows or subscriptions drift."""

    sandbox: Sandbox
    tenant: Tenant

    @property
    def api(self) -> stripe.V1Services:
        return self.sandbox.client().v1

    @property
    def subscription(self) -> str:
        return str(self.tenant.stripe_subscription_id)

    def rewrite(self, **fields: Any) -> None:
        rewrite_subscription(self.sandbox, self.subscription, **fields)

    def update(self, **params: Any) -> None:
        self.api.subscriptions.update(self.subscription, cast(Any, params))

    def set(self, **columns: Any) -> None:
        Tenant.objects.filter(pk=self.tenant.pk).update(**columns)

    def set_sync(self, **columns: Any) -> None:
        SubscriptionSync.objects.filter(pk=self.tenant.pk).update(**columns)

    def set_plan(self, **columns: Any) -> None:
        Plan.objects.filter(pk="basic").update(**columns)

    def set_invoices(self, **columns: Any) -> None:
        invoices = InvoiceCollection.objects.filter(tenant=self.tenant)
        invoices.update(**columns)

    def write(self, kind: StripeWrite.Kind, subject: str) -> None:
        """Record a write that was tried an hour ago, and found no answer."""
        write = create_write(
            kind=kind,
            subject=subject,
            tenant_id=self.tenant.pk,
            params=lambda key: {"email": "x@y.z", "customer": self.customer},
        )
        tried_at = timezone.now() - timedelta(hours=1)
        StripeWrite.objects.filter(pk=write.pk).update(tried_at=tried_at)

    @property
    def customer(self) -> str:
        return str(self.tenant.stripe_customer_id)

    def price(self, plan: str) -> str:
        return str(Plan.objects.get(pk=plan).stripe_price_id)

    def items(self) -> list[Any]:
        return list(self.api.subscriptions.retrieve(self.subscription)["items"].data)

    def create(self, **params: Any) -> None:
        create_subscription_at_stripe(
            self.sandbox, self.tenant, self.price("basic"), **params
        )

    def hide(self) -> None:
        """Make the tenant look as if it was in sync."""
        self.set_sync(synced_version=F("version"), stale_since=None)

    def snapshot(self) -> list[Any]:
        """Return all that a sync could change, apart from its own bookkeeping."""
        tenant = self.tenant.pk
        SubscriptionSync.objects.get_or_create(pk=tenant)
        sync = SubscriptionSync.objects.filter(pk=tenant).values().get()
        return [
            list(Tenant.objects.filter(pk=tenant).values()),
            {name: sync[name] for name in sync.keys() - _BOOKKEEPING},
            list(StripeWrite.objects.filter(tenant=tenant).values()),
            list(
                InvoiceCollection.objects.filter(tenant=tenant)
                .order_by("pk")
                .values("pk", "revision", "state", "suspend_at")
            ),
            list(Relay.objects.filter(tenant=tenant).order_by("pk").values("status")),
            [r["path"] for r in self.sandbox.requests() if r["method"] != "GET"],
        ]


Drift = Callable[[Subject], object]


def _relays(subject: Subject, **columns: Any) -> None:
    Relay.objects.filter(tenant=subject.tenant).update(**columns)


def _overdue(subject: Subject) -> None:
    subject.set_invoices(
        stripe_status="open",
        amount_remaining_cents=500,
        suspend_at=timezone.now() - timedelta(days=1),
    )


def _overdue_and_a_relay(subject: Subject) -> None:
    subject.set(payment_overdue_since=timezone.now())
    _overdue(subject)
    add_relay(subject.tenant)


def _end_with_changes(subject: Subject) -> None:
    write = create_write(
        kind=StripeWrite.Kind.CANCEL_SUBSCRIPTION,
        subject="sub_old",
        tenant_id=subject.tenant.pk,
        params=lambda key: {
            "terms": {"at": 1, "pending": [], "deleted": [], "prorated": False},
            "credited_changes": 0,
        },
    )
    StripeWrite.objects.filter(pk=write.pk).update(
        state="succeeded", stripe_id="sub_old", resolved_at=timezone.now()
    )
    mark_changed("sub_old")


def _old_unpaid_invoice(subject: Subject) -> None:
    subject.api.subscriptions.cancel(subject.subscription)
    subject.set(stripe_subscription_id=None)


#: A drift by name, with the reasons that it alone leads to; none if a sync would change
#: nothing.
DRIFTS: dict[str, tuple[Drift, set[str]]] = {
    "nothing": (lambda s: None, set()),
    "relay": (lambda s: add_relay(s.tenant), {"quantity"}),
    "relay on another plan": (
        lambda s: add_relay(s.tenant, "growth"),
        {"quantity"},
    ),
    "free relay": (lambda s: add_relay(s.tenant, "free"), set()),
    "relay less": (lambda s: _relays(s, status="inactive"), {"surplus"}),
    "relay on another plan only": (
        lambda s: _relays(s, plan="growth"),
        {"quantity", "unwanted_price"},
    ),
    "price problem": (lambda s: s.set_plan(price_problem="archived"), set()),
    "plan without price": (
        lambda s: s.set_plan(stripe_price_id=None),
        {"surplus", "not_billed"},
    ),
    "name": (lambda s: s.set(display_name="Bob"), {"customer_details"}),
    "name removed": (lambda s: s.set_sync(customer_name="Bob"), {"customer_details"}),
    "unconfirmed address": (lambda s: s.set(email="a@b.example"), set()),
    "address": (
        lambda s: s.set(email="a@b.example", email_confirmed_at=timezone.now()),
        {"customer_details"},
    ),
    "quantity": (
        lambda s: s.update(items=[{"id": s.items()[0].id, "quantity": 5}]),
        {"quantity"},
    ),
    "item": (
        lambda s: s.update(items=[{"price": s.price("growth"), "quantity": 1}]),
        {"unwanted_price"},
    ),
    "ended": (
        lambda s: s.api.subscriptions.cancel(s.subscription),
        {"ended", "missing"},
    ),
    "unpaid": (lambda s: s.rewrite(status="unpaid"), {"ended", "missing", "unpaid"}),
    "incomplete": (
        lambda s: s.rewrite(status="incomplete"),
        {"ended", "missing", "unpaid"},
    ),
    "past due": (lambda s: s.rewrite(status="past_due"), set()),
    "trialing": (lambda s: s.rewrite(status="trialing"), set()),
    "second": (lambda s: s.create(), {"surplus", "unknown_invoice"}),
    "foreign": (lambda s: s.create(metadata={}), {"not_ours"}),
    "metadata": (lambda s: s.update(metadata={"tenant_pubkey": ""}), {"metadata"}),
    "automatic": (
        lambda s: s.update(collection_method="charge_automatically"),
        {"collection_method"},
    ),
    "coupon": (
        lambda s: s.update(
            discounts=[{"coupon": builders.coupon(s.sandbox.client()).id}]
        ),
        {"terms"},
    ),
    "tax": (
        lambda s: s.update(
            default_tax_rates=[builders.tax_rate(s.sandbox.client()).id]
        ),
        {"terms"},
    ),
    "item's tax": (
        lambda s: s.update(
            items=[
                {
                    "id": s.items()[0].id,
                    "tax_rates": [builders.tax_rate(s.sandbox.client()).id],
                }
            ]
        ),
        {"terms"},
    ),
    "paused": (
        lambda s: pause_subscription(s.sandbox, s.tenant),
        {"pause"},
    ),
    "pause stored": (
        lambda s: s.set_sync(
            paused_subscription_id=s.subscription, paused_at=timezone.now()
        ),
        {"pause", "payment_block"},
    ),
    "collection paused": (
        lambda s: s.update(pause_collection={"behavior": "keep_as_draft"}),
        {"pause"},
    ),
    "collection pause stored": (
        lambda s: s.set_sync(collection_pause="void"),
        {"pause"},
    ),
    "other current": (
        lambda s: s.set(stripe_subscription_id="sub_gone"),
        # Stripe never had it: the sync fails.
        {"current_id", "ended"},
    ),
    "no current": (lambda s: s.set(stripe_subscription_id=None), {"current_id"}),
    "no customer": (
        lambda s: s.set(stripe_customer_id=None, stripe_subscription_id=None),
        {"missing", "customer_missing", "other_customer"},
    ),
    "overdue": (
        _overdue,
        {"payment_block"},
    ),
    "overdue and a relay": (_overdue_and_a_relay, set()),
    "block stored": (
        lambda s: s.set(payment_overdue_since=timezone.now()),
        {"payment_block"},
    ),
    "hold stored": (
        lambda s: s.set(billing_on_hold_since=timezone.now()),
        {"payment_block"},
    ),
    "draft refused": (
        lambda s: s.set_invoices(hold="refused", total_cents=500),
        {"payment_block"},
    ),
    "unknown invoice": (
        lambda s: InvoiceCollection.objects.filter(tenant=s.tenant).delete(),
        {"unknown_invoice"},
    ),
    "invoice of another subscription": (
        lambda s: s.set_invoices(stripe_subscription_id="sub_gone"),
        {"unnoticed_end"},
    ),
    "pending cancellation": (
        lambda s: s.write(StripeWrite.Kind.CANCEL_SUBSCRIPTION, s.subscription),
        {"pending_write"},
    ),
    "pending customer": (
        lambda s: s.write(StripeWrite.Kind.CREATE_CUSTOMER, s.tenant.pk),
        {"pending_write"},
    ),
    "pending subscription": (
        lambda s: s.write(StripeWrite.Kind.CREATE_SUBSCRIPTION, s.tenant.pk),
        {"pending_write"},
    ),
    "changed end": (_end_with_changes, {"changed_end"}),
    "exempt": (lambda s: s.set(dunning_exempt=True), set()),
    "ended with a debt": (
        _old_unpaid_invoice,
        {"missing", "unnoticed_end"},
    ),
}
