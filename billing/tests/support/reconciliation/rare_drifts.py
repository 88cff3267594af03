"""Further drifts: second subscriptions, ends, pauses, debts, and rows made by hand."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from billing.models import SubscriptionSync
from billing.services.customers.closing import close_tenant
from billing.services.subscriptions.sync import sync_tenant
from billing.services.sync.queue import mark_stale
from billing.tests.support.holds import pause_subscription, resume_subscription
from billing.tests.support.reconciliation.drifts import Drift, Subject
from billing.tests.support.subscriptions import add_relay, rewrite_subscription
from relays.models import Plan, Relay


def _second(subject: Subject, status: str) -> None:
    subject.create()
    newest = subject.api.subscriptions.list({"customer": subject.customer}).data[0]
    rewrite_subscription(subject.sandbox, newest.id, status=status)


def _item_twice(subject: Subject) -> None:
    def work(context: Any) -> None:
        with context.update("subscription", subject.subscription) as draft:
            (first,) = draft["_items"]
            draft["_items"] = [first, {**first, "id": "si_second", "quantity": 3}]

    subject.sandbox.app.transact(work)


def _resumed(subject: Subject) -> None:
    """Resume a subscription whose pause has switched the relays off."""
    pause_subscription(subject.sandbox, subject.tenant)
    mark_stale(tenant_id=subject.tenant.pk)
    sync_tenant(tenant_id=subject.tenant.pk)
    resume_subscription(subject.sandbox, subject.tenant)


def _unsellable(subject: Subject, **columns: Any) -> None:
    Plan.objects.filter(pk="growth").update(**columns)
    add_relay(subject.tenant, "growth")


def _not_overdue_yet(subject: Subject) -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    subject.set_invoices(
        stripe_status="open", amount_remaining_cents=500, suspend_at=tomorrow
    )


#: As `drifts.DRIFTS`.
RARE_DRIFTS: dict[str, tuple[Drift, set[str]]] = {
    "closed": (lambda s: close_tenant(tenant_id=s.tenant.pk), {"surplus"}),
    "item twice": (_item_twice, {"unwanted_price"}),
    "second paused": (lambda s: _second(s, "paused"), {"unknown_invoice"}),
    "second unpaid": (lambda s: _second(s, "unpaid"), {"unpaid", "unknown_invoice"}),
    "second incomplete": (
        lambda s: _second(s, "incomplete"),
        {"unpaid", "unknown_invoice"},
    ),
    "second trialing": (
        lambda s: _second(s, "trialing"),
        {"surplus", "unknown_invoice"},
    ),
    "end planned": (lambda s: s.update(cancel_at_period_end=True), set()),
    "customer deleted": (
        lambda s: s.api.customers.delete(s.customer),
        {"ended", "missing"},
    ),
    "metadata of another tenant": (
        lambda s: s.update(metadata={"tenant_pubkey": "ab" * 32}),
        {"metadata"},
    ),
    "metadata with a line break": (
        lambda s: s.update(metadata={"tenant_pubkey": f"{s.tenant.pk}\n"}),
        {"metadata"},
    ),
    "not overdue yet": (_not_overdue_yet, set()),
    "dispute": (lambda s: s.set_invoices(dispute_debt_cents=500), {"payment_block"}),
    "relays off": (
        lambda s: Relay.objects.filter(tenant=s.tenant).update(status="delinquent"),
        {"surplus"},
    ),
    "no row": (
        lambda s: SubscriptionSync.objects.filter(pk=s.tenant.pk).delete(),
        {"terms", "customer_details"},
    ),
    "another price archived": (
        lambda s: _unsellable(s, price_problem="archived"),
        {"not_billed"},
    ),
    "another plan without price": (
        lambda s: _unsellable(s, stripe_price_id=None),
        {"not_billed"},
    ),
    "resumed": (_resumed, {"pause", "surplus"}),
}
