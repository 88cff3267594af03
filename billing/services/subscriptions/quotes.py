"""Quotes: the cost of a change of plan, and the change at this cost only (ADR 34)."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.core import signing
from django.db import transaction
from django.utils import timezone

from billing.exceptions import (
    InvalidQuote,
    QuoteChanged,
    QuoteExpired,
    QuoteNotReady,
)
from billing.models import SubscriptionSync
from billing.services.subscriptions.diff import desired_items
from billing.services.subscriptions.previews import Preview, preview_items
from lightning.exceptions import RateUnavailable
from lightning.services import rates
from relays.exceptions import UnknownRelay
from relays.models import Relay
from relays.services.lifecycle import change_plan, update_relay_and_plan
from relays.services.members import count_for_plan
from tenants.models import Tenant

LIFETIME = timedelta(minutes=10)
_SALT = "billing.plan-quote"


@dataclass(frozen=True)
class PlanQuote:
    """The cost of moving a relay to a plan; `id` is signed and holds the amounts.

    If the relay `starts_when_served`, it has never run: the cost is that of a first
    proof right now, and nothing is due before there is one.
    """

    id: str
    relay_id: UUID
    plan_id: str
    preview: Preview
    expires_at: datetime
    starts_when_served: bool


@dataclass(frozen=True)
class _Terms:
    """Content of a quote's id: the amounts, and the time from which they count."""

    amounts: tuple[str, int, int]
    at: int

    @property
    def is_charge(self) -> bool:
        return self.amounts[1] >= 0


def quote_plan_change(*, relay_id: UUID, plan_id: str) -> PlanQuote:
    """Return the cost of a change of plan, now and at each renewal. Changes nothing.

    Raises the same errors as `count_for_plan` and `change_plan`, QuoteNotReady or a
    StripeError.
    """
    now = timezone.now()
    _require_synced(_tenant_id(relay_id))
    count_for_plan(relay_id=relay_id, plan_id=plan_id)
    preview, waits = _preview(relay_id, plan_id, int(now.timestamp()))
    quote_id = signing.dumps(
        [str(relay_id), plan_id, preview.at, *preview.amounts], salt=_SALT
    )
    return PlanQuote(quote_id, relay_id, plan_id, preview, now + LIFETIME, waits)


def change_plan_as_quoted(
    *, quote_id: str, relay_id: UUID, plan_id: str, **fields: Any
) -> Relay:
    """Change the plan at the quoted amounts, and other fields with it.

    Raises InvalidQuote, QuoteExpired, QuoteChanged if the amounts are others now,
    QuoteNotReady, an error of `count_for_plan` or `update_relay_and_plan`, or a
    StripeError.
    """
    terms = _read(quote_id, relay_id, plan_id)
    tenant_id = _tenant_id(relay_id)
    version = _require_synced(tenant_id)
    count_for_plan(relay_id=relay_id, plan_id=plan_id)
    # A charge is for the time since the quote. Not so a credit: until now, the tenant
    # has had what it gives back.
    at = terms.at if terms.is_charge else int(timezone.now().timestamp())
    preview, waits = _preview(relay_id, plan_id, at)
    if preview.amounts != terms.amounts:
        raise QuoteChanged("The change would now cost another amount.")
    with transaction.atomic():
        Tenant.objects.lock(tenant_id)
        if _require_synced(tenant_id) != version:
            raise QuoteChanged("Something else has changed in the meantime.")
        relay = update_relay_and_plan(relay_id=relay_id, plan_id=plan_id, **fields)
        if not waits:
            quoted = {"items": preview.items, "at": preview.at}
            SubscriptionSync.objects.filter(pk=tenant_id).update(quoted=quoted)
    return relay


def in_sats(amount_cents: int, currency: str) -> int | None:
    """Return an amount in sats at the present rate; None for a credit or no rate."""
    if amount_cents <= 0:
        return 0 if amount_cents == 0 else None
    try:
        quote = rates.quote(amount_cents=amount_cents, currency=currency)
    except RateUnavailable:
        return None
    return quote.amount_msat // 1000


def _read(quote_id: str, relay_id: UUID, plan_id: str) -> _Terms:
    try:
        loaded = signing.loads(quote_id, salt=_SALT, max_age=LIFETIME)
    except signing.SignatureExpired as exc:
        raise QuoteExpired("This quote has expired.") from exc
    except signing.BadSignature as exc:
        raise InvalidQuote("There is no such quote.") from exc
    relay, plan, at, *amounts = loaded
    if (relay, plan) != (str(relay_id), plan_id):
        raise InvalidQuote("This quote is for another relay or plan.")
    return _Terms((amounts[0], amounts[1], amounts[2]), at)


def _preview(relay_id: UUID, plan_id: str, at: int) -> tuple[Preview, bool]:
    """Return the cost of a change, and whether it starts with the first proof only."""
    with transaction.atomic():
        # Made and undone: what a change does, and what forbids it, is decided there.
        relay = change_plan(relay_id=relay_id, plan_id=plan_id)
        waits = relay.unbilled_reason == Relay.Unbilled.NEVER_SERVED
        if waits:
            # A quote of nothing would be followed by an invoice within seconds.
            row = Relay.objects.filter(pk=relay_id)
            row.update(first_served_at=timezone.now())
        desired = desired_items(relay.tenant_id)
        transaction.set_rollback(True)
    tenant = Tenant.objects.get(pk=relay.tenant_id)
    return preview_items(tenant, desired, plan=relay.plan, at=at), waits


def _tenant_id(relay_id: UUID) -> str:
    relays = Relay.objects.existing().filter(pk=relay_id)
    tenant_id = relays.values_list("tenant_id", flat=True).first()
    if tenant_id is None:
        raise UnknownRelay("There is no such relay.")
    return tenant_id


def _require_synced(tenant_id: str) -> int:
    """Return the version of the tenant's relays that Stripe has.

    Raises QuoteNotReady if it does not have the latest one.
    """
    sync = SubscriptionSync.objects.filter(pk=tenant_id).first()
    if sync and sync.is_stale:
        raise QuoteNotReady("An earlier change has not reached Stripe yet.")
    return sync.version if sync else 0
