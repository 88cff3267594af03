from celery import shared_task
from django.utils import timezone

from billing.models import (
    Credit,
    InvoiceCollection,
    ReconciliationRun,
    StripeEvent,
    SubscriptionSync,
)
from billing.services.collection import collect
from billing.services.credits import posting
from billing.services.customers import catalog
from billing.services.dunning import suspension, wallet_check
from billing.services.events import drain, endpoint, process
from billing.services.pull import events as pulled_events
from billing.services.pull import objects
from billing.services.reconciliation import reconcile
from billing.services.subscriptions import sync
from caravel.core.celery_task import BULK


@shared_task(queue="stripe")
def sync_subscription(tenant_id: str) -> None:
    sync.sync_tenant(tenant_id=tenant_id)


@shared_task(queue="stripe")
def process_stripe_event(event_id: str) -> None:
    process.process_event(event_id=event_id)


@shared_task(queue="stripe")
def process_due_events() -> None:
    drain.process_due_events()


# Not in the queue of syncs and webhooks: it may wait for a wallet that never answers.
@shared_task(queue="lightning")
def collect_invoice(invoice_id: str) -> None:
    collect.collect_enqueued(invoice_id=invoice_id)


@shared_task
def sweep_collections() -> None:
    collect_invoice.delay_many(
        InvoiceCollection.objects.working().claim(now=timezone.now())
    )


@shared_task(queue="stripe")
def post_credit(credit_id: int) -> None:
    posting.post_credit(credit_id=credit_id)


@shared_task
def sweep_stale_tenants() -> None:
    # After a reconciliation these may be thousands: webhooks, and changes for which a
    # person waits, must not wait behind them.
    sync_subscription.delay_many(
        SubscriptionSync.objects.stale().claim(now=timezone.now()), priority=BULK
    )


@shared_task
def sweep_stripe_events() -> None:
    process_due_events.delay()
    process_stripe_event.delay_many(
        StripeEvent.objects.lost().claim(now=timezone.now())
    )


@shared_task
def sweep_credits() -> None:
    post_credit.delay_many(Credit.objects.owed().claim(now=timezone.now()))


@shared_task
def reconcile_subscriptions() -> None:
    reconcile.begin_due_run()
    discover_objects.delay()
    complete_webhook_events.delay()


@shared_task(queue="stripe")
def run_reconciliation(run_id: int) -> None:
    reconcile.continue_run(run_id=run_id)
    sweep_stale_tenants.delay_on_commit()


@shared_task
def sweep_reconciliations() -> None:
    for run_id in ReconciliationRun.objects.stale().claim(now=timezone.now()):
        run_reconciliation.delay(run_id)


@shared_task(queue="stripe")
def discover_objects() -> None:
    objects.discover_objects()


@shared_task(queue="stripe")
def pull_stripe_events() -> None:
    pulled_events.pull_events()


@shared_task(queue="stripe")
def complete_webhook_events() -> None:
    endpoint.complete_own_events()


@shared_task(queue="stripe")
def check_prices() -> None:
    catalog.refresh_prices_regularly()


@shared_task
def review_tenant(tenant_id: str) -> None:
    suspension.review_tenant(tenant_id=tenant_id)


@shared_task
def remind_of_debt(tenant_id: str) -> None:
    suspension.remind_of_debt(tenant_id=tenant_id)


@shared_task
def review_dunning() -> None:
    review_tenant.delay_many(suspension.tenants_to_review(timezone.now()))


@shared_task(queue="lightning")
def check_wallet(invoice_id: str) -> None:
    wallet_check.check_wallet_for_next_invoice(invoice_id=invoice_id)


@shared_task
def check_wallets() -> None:
    check_wallet.delay_many(wallet_check.claim_due_checks(now=timezone.now()))
