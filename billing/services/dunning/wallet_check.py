"""Whether tenants' wallets will pay the next invoice: asked before it comes."""

from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, Sum
from django.utils import timezone

from billing.models import InvoiceCollection
from billing.models.collections import InvoiceCollectionQuerySet
from billing.services.dunning.notices import tell_wallet_trouble
from lightning.clients.nwc_replies import Budget
from lightning.exceptions import InvalidWalletUrl, RateUnavailable, WalletUnusable
from lightning.services.rates import quote
from lightning.services.wallets import WalletCheck, check_wallet_of, set_wallet_warning
from relays.models import Relay
from tenants.models import Tenant

logger = structlog.get_logger(__name__)

#: How long before the next invoice a wallet is asked.
AHEAD = timedelta(days=3)
#: How long after a message that may be lost, or a silence, it is asked again.
AGAIN = timedelta(hours=1)
#: A wallet that was off when it was asked may be on an hour later.
_SILENCE = frozenset({"wallet-silent", "wallet-unreachable"})
_MOST = 1_000


def claim_due_checks(*, now: datetime) -> list[str]:
    """Return the invoices after which a wallet is to be asked now, and note that.

    One whose message is lost, or whose worker dies, is due again an hour later.
    """
    with transaction.atomic():
        locked = _due(now).select_for_update(of=("self",), skip_locked=True)
        keys = list(locked.order_by("pk").values_list("pk", flat=True)[:_MOST])
        InvoiceCollection.objects.filter(pk__in=keys).update(wallet_asked_at=now)
    return keys


def check_wallet_for_next_invoice(*, invoice_id: str) -> str:
    """Ask the wallet that is to pay the invoice after this one.

    What is wrong with it the tenant is told, once. Returns that, "" for nothing.
    """
    unchecked = InvoiceCollection.objects.filter(wallet_checked_at=None)
    rows = unchecked.select_related("tenant")
    collection: InvoiceCollection | None = rows.filter(pk=invoice_id).first()
    if collection is None or not collection.tenant.nwc_url:
        return ""
    try:
        sentence = _shortfall(collection, check_wallet_of(collection.tenant))
    except (WalletUnusable, InvalidWalletUrl) as exc:
        if exc.code in _SILENCE and not _was_silent_before(collection):
            return ""
        sentence = exc.message
    _conclude(collection, sentence)
    return sentence


def _due(now: datetime) -> InvoiceCollectionQuerySet:
    """Return the latest invoice of each tenant whose wallet is to be asked."""
    later = InvoiceCollection.objects.filter(
        tenant=OuterRef("tenant"), period_end__gt=OuterRef("period_end")
    )
    idle = Q(wallet_asked_at=None) | Q(wallet_asked_at__lte=now - AGAIN)
    return InvoiceCollection.objects.filter(
        idle,
        ~Exists(later),
        ~Q(tenant__nwc_url=""),
        wallet_checked_at=None,
        period_end__lte=now + AHEAD,
        tenant__autopay_paused=False,
        tenant__stripe_subscription_id__isnull=False,
    )


def _shortfall(collection: InvoiceCollection, check: WalletCheck) -> str:
    """Return what keeps a wallet that works today from paying then, "" if nothing."""
    pays_at = collection.period_end
    if pays_at and check.expires_at and check.expires_at <= pays_at:
        return f"The connection to it ends on {check.expires_at:%-d %B %Y}."
    if check.budget and not _will_have(check.budget, pays_at, _cost(collection)):
        return "The budget it gives us is too small for what your relays cost."
    return ""


def _will_have(budget: Budget, pays_at: datetime | None, cost_msat: int) -> bool:
    renews = budget.renews_at and pays_at and budget.renews_at <= pays_at
    return (budget.total_msat if renews else budget.left_msat) >= cost_msat


def _cost(collection: InvoiceCollection) -> int:
    """Return in msat what the tenant's relays cost a month; 0 if no price is known."""
    billable = Relay.objects.billable().filter(tenant=collection.tenant)
    by_currency = billable.order_by().values_list("plan__currency")
    # Read to the end: a quote gives the connection back.
    costs = list(by_currency.annotate(cents=Sum("plan__amount_cents")))
    try:
        quotes = [quote(amount_cents=cents, currency=code) for code, cents in costs]
    except RateUnavailable as exc:
        logger.info("budget_not_compared", reason=exc.message)
        return 0
    return sum(each.amount_msat for each in quotes)


def _was_silent_before(collection: InvoiceCollection) -> bool:
    """Return whether it was silent an hour ago, too; note when it was first."""
    asked_at = collection.wallet_asked_at or timezone.now()
    rows = InvoiceCollection.objects.filter(pk=collection.pk)
    rows.filter(wallet_silent_at=None).update(wallet_silent_at=asked_at)
    return rows.filter(wallet_silent_at__lte=timezone.now() - AGAIN).exists()


def _conclude(collection: InvoiceCollection, sentence: str) -> None:
    """Record that the wallet was asked, and tell what is wrong with it."""
    with transaction.atomic():
        Tenant.objects.lock(collection.tenant_id)
        rows = InvoiceCollection.objects.filter(
            pk=collection.pk, wallet_checked_at=None
        )
        if not rows.update(wallet_checked_at=timezone.now()) or not sentence:
            return
        if set_wallet_warning(collection.tenant, sentence):
            tell_wallet_trouble(collection, sentence)
            logger.info("wallet_trouble", tenant=collection.tenant_id)
