"""Checks, three days ahead, that a tenant's wallet can pay the next invoice."""

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, Sum
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.services.dunning.notices import notify_wallet_trouble
from lightning.clients.nwc_replies import Budget
from lightning.exceptions import InvalidWalletUrl, RateUnavailable, WalletUnusable
from lightning.services.rates import quote
from lightning.services.wallets import WalletCheck, check_wallet_of, set_wallet_warning
from relays.models import Relay
from tenants.models import Tenant
from tenants.services.notice_texts import format_date

logger = structlog.get_logger(__name__)

#: How long before the next invoice a wallet is checked.
AHEAD = timedelta(days=3)
#: How long after the period the next invoice may still be unknown.
_BELATED = timedelta(days=1)
#: Pause before a check is repeated: its task may be lost, or the wallet offline.
RETRY_AFTER = timedelta(hours=1)
#: No problem at first: the wallet may only be offline for a moment.
_NO_ANSWER_ERRORS = frozenset({"wallet-silent", "wallet-unreachable"})
_MAX_CHECKS = 1_000


def claim_due_checks(*, now: datetime) -> list[str]:
    """Claim the due checks; return the ids of the tenants' latest invoices.

    A check whose message is lost, or whose worker dies, is due again an hour later.
    """
    with transaction.atomic():
        locked = _due(now).select_for_update(of=("self",), skip_locked=True)
        keys = list(
            locked.order_by("period_end", "pk").values_list("pk", flat=True)[
                :_MAX_CHECKS
            ]
        )
        InvoiceCollection.objects.filter(pk__in=keys).update(wallet_asked_at=now)
    return keys


def check_wallet_for_next_invoice(*, invoice_id: str) -> str:
    """Check the wallet that will pay the invoice after this one.

    Returns the problem, "" if there is none. The tenant is notified of it once.
    """
    unchecked = InvoiceCollection.objects.filter(wallet_checked_at=None)
    rows = unchecked.select_related("tenant")
    collection: InvoiceCollection | None = rows.filter(pk=invoice_id).first()
    if collection is None or not collection.tenant.nwc_url:
        return ""
    try:
        problem = _problem(collection, check_wallet_of(collection.tenant))
    except (WalletUnusable, InvalidWalletUrl) as exc:
        if exc.code in _NO_ANSWER_ERRORS and not _was_silent_before(collection):
            return ""
        problem = exc.own_words if isinstance(exc, WalletUnusable) else exc.message
    _record_result(collection, problem)
    return problem


def _due(now: datetime) -> InvoiceCollectionQuerySet:
    """Return the latest invoice of each tenant whose wallet check is due."""
    later = InvoiceCollection.objects.filter(
        tenant=OuterRef("tenant"), period_end__gt=OuterRef("period_end")
    )
    idle = Q(wallet_asked_at=None) | Q(wallet_asked_at__lte=now - RETRY_AFTER)
    return InvoiceCollection.objects.filter(
        idle,
        ~Exists(later),
        ~Q(tenant__nwc_url=""),
        wallet_checked_at=None,
        # Not of a period whose next invoice must be here by now, or will never come.
        period_end__range=(now - _BELATED, now + AHEAD),
        tenant__autopay_paused=False,
        tenant__stripe_subscription_id__isnull=False,
    )


def _problem(collection: InvoiceCollection, check: WalletCheck) -> str:
    """Return why a wallet that works today cannot pay then, "" if it can."""
    pays_at = collection.period_end
    if pays_at and check.expires_at and check.expires_at <= pays_at:
        ends_on = format_date(check.expires_at, collection.tenant)
        return f"The connection to it ends on {ends_on}."
    if check.budget and not _is_enough(check.budget, pays_at, _cost_msat(collection)):
        return "The budget it gives us is less than the price of your relays."
    return ""


def _is_enough(budget: Budget, pays_at: datetime | None, cost_msat: int) -> bool:
    renews = budget.renews_at and pays_at and budget.renews_at <= pays_at
    return (budget.total_msat if renews else budget.left_msat) >= cost_msat


def _cost_msat(collection: InvoiceCollection) -> int:
    """Return the monthly price of the tenant's relays in msat, 0 without a rate."""
    billable = Relay.objects.billable().filter(tenant=collection.tenant)
    by_currency = billable.order_by().values_list("plan__currency")
    # Read at once: a quote releases the database connection before it waits.
    costs = list(by_currency.annotate(cents=Sum("plan__amount_cents")))
    try:
        quotes = [quote(amount_cents=cents, currency=code) for code, cents in costs]
    except RateUnavailable as exc:
        logger.info("budget_not_compared", reason=exc.message)
        return 0
    return sum(each.amount_msat for each in quotes)


def _was_silent_before(collection: InvoiceCollection) -> bool:
    """Store the time of the first silence; return whether it is over an hour ago."""
    asked_at = collection.wallet_asked_at or timezone.now()
    rows = InvoiceCollection.objects.filter(pk=collection.pk)
    rows.filter(wallet_silent_at=None).update(wallet_silent_at=asked_at)
    return rows.filter(wallet_silent_at__lte=timezone.now() - RETRY_AFTER).exists()


def _record_result(collection: InvoiceCollection, problem: str) -> None:
    """Record that the check is done, and notify the tenant of a problem."""
    with transaction.atomic():
        Tenant.objects.lock(collection.tenant_id)
        rows = InvoiceCollection.objects.filter(
            pk=collection.pk, wallet_checked_at=None
        )
        if not rows.update(wallet_checked_at=timezone.now()) or not problem:
            return
        if set_wallet_warning(collection.tenant, problem):
            notify_wallet_trouble(collection, problem)
            logger.info("wallet_trouble", tenant=collection.tenant_id)
