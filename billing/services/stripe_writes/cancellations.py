"""Records of cancelled subscriptions, on which the credit for unused time is based.

A `DELETE` has no idempotency key, so a cancellation is not sent by a `Write`: an
interrupted one is looked up and decided again.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from billing.clients.stripe.client import Line, Subscription
from billing.clients.stripe.types import to_datetime
from billing.models import StripeWrite
from billing.services.stripe_writes import writes

CANCEL = StripeWrite.Kind.CANCEL_SUBSCRIPTION
#: Parameter of a subscription that Caravel did not cancel.
_EXTERNAL = "found"
#: Parameter with the prorations that are deleted.
_DELETES = "deletes"
#: Parameter with the terms of an end that was credited.
_TERMS = "terms"
#: Parameters that count the changes after an end, and those that were credited.
_CHANGES, _CREDITED_CHANGES = StripeWrite.CHANGES, "credited_changes"


@dataclass(frozen=True)
class EndTerms:
    """Facts on which the credit for an end is based, also if it is computed again.

    `pending` prorations will still be billed, `deleted` ones never will. `prorated`
    says that Caravel had Stripe credit the unused time.
    """

    at: int
    pending: tuple[Line, ...] = ()
    deleted: tuple[Line, ...] = ()
    prorated: bool = False


def create_cancellation(
    *,
    tenant_id: str,
    subscription_id: str,
    has_unpaid_invoice: bool,
    pending: Sequence[Line],
) -> StripeWrite:
    """Record a cancellation that is about to be sent, and its terms.

    With an unpaid invoice, Stripe is not asked to prorate: it would credit time that
    was not paid for. The `pending` prorations are then deleted. They are stored here,
    since the used part of them reduces the credit.
    """
    prorate = not has_unpaid_invoice
    return writes.create_write(
        kind=CANCEL,
        subject=subscription_id,
        tenant_id=tenant_id,
        params=lambda key: {
            "prorate": prorate,
            "invoice_now": prorate,
            _DELETES: [asdict(line) for line in pending],
        },
    )


def record_external_end(*, tenant_id: str, subscription_id: str) -> None:
    """Record, in the caller's transaction, an end that the next sync has to credit.

    Does nothing if Caravel cancelled it: that cancellation leads to the credit.
    """
    sent = StripeWrite.objects.of(CANCEL, subscription_id)
    if not sent.filter(_HAD_EFFECT).exists():
        writes.create_write(
            kind=CANCEL,
            subject=subscription_id,
            tenant_id=tenant_id,
            params=lambda key: {_EXTERNAL: True},
        )


def has_ended(subscription_id: str) -> bool:
    """Return whether a subscription has ended, and its unused time is credited."""
    sent = StripeWrite.objects.of(CANCEL, subscription_id)
    return sent.exclude(stripe_id="").exists()


def deleted_lines(write: StripeWrite, ended_at: datetime) -> tuple[Line, ...]:
    """Return the prorations that Stripe deleted when the subscription ended.

    For an external end, use what Caravel has deleted, and the lines of an abandoned
    cancellation that may still have reached Stripe; others are not known.
    """
    if ended_externally(write):
        abandoned = StripeWrite.objects.of(CANCEL, write.subject).filter(
            _may_have_arrived(ended_at)
        )
        sent = abandoned.order_by("-generation").first()
    else:
        sent = None
    stored = [each.params.get(_DELETES, []) for each in (write, sent) if each]
    return tuple(Line(**line) for lines in stored for line in lines)


def save_deletes(write: StripeWrite, lines: Sequence[Line]) -> None:
    """Store prorations before they are deleted; those stored before stay."""
    stored = write.params.get(_DELETES, [])
    known = {line["id"] for line in stored}
    new = [asdict(line) for line in lines if line.id not in known]
    if new:
        with transaction.atomic():
            _add_params(write.pk, {_DELETES: [*stored, *new]})


def save_end_terms(write: StripeWrite, terms: EndTerms, change: int) -> None:
    """Store the terms on which an end was credited, with `latest_change` before."""
    _add_params(write.pk, {_TERMS: asdict(terms), _CREDITED_CHANGES: change})


def stored_end_terms(subscription_id: str) -> EndTerms | None:
    """Return the terms on which an end was credited, None if it was not."""
    write = _credited(subscription_id)
    if write is None:
        return None
    stored = write.params[_TERMS]
    lines = {
        name: tuple(Line(**line) for line in stored[name])
        for name in ("pending", "deleted")
    }
    return EndTerms(**{**stored, **lines})


def mark_changed(subscription_id: str) -> bool:
    """Note in the caller's transaction that amounts have changed since an end.

    Returns False if the subscription has not ended.
    """
    write = _latest(subscription_id)
    if write is None:
        return False
    _add_params(write.pk, {_CHANGES: latest_change(subscription_id) + 1})
    return True


def latest_change(subscription_id: str) -> int:
    """Return the number of changes since the end of a subscription."""
    write = _latest(subscription_id)
    return int(write.params.get(_CHANGES, 0)) if write else 0


def mark_change_credited(subscription_id: str, change: int) -> None:
    """Note that the credits take account of all changes up to this one."""
    if write := _credited(subscription_id):
        _add_params(write.pk, {_CREDITED_CHANGES: change})


def changed_subscriptions(tenant_id: str) -> list[str]:
    """Return the ended subscriptions of a tenant whose credits may be outdated."""
    writes = StripeWrite.objects.filter(kind=CANCEL, tenant=tenant_id)
    credited = writes.filter(params__has_keys=[_TERMS, _CHANGES]).order_by("pk")
    return [
        write.subject
        for write in credited
        if write.params[_CHANGES] != write.params[_CREDITED_CHANGES]
    ]


def ended_externally(write: StripeWrite) -> bool:
    """Return whether the subscription ended without being cancelled by Caravel."""
    return _EXTERNAL in write.params


def asked_stripe_to_prorate(write: StripeWrite) -> bool:
    """Return whether the cancellation asked Stripe to credit the unused time."""
    return bool(write.params.get("prorate"))


def cancelled_by_us(subscription: Subscription) -> bool:
    """Return whether Caravel cancelled the subscription.

    An abandoned cancellation counts if it could still have arrived by the end.
    """
    had_effect = _HAD_EFFECT
    if subscription.canceled_at is not None:
        had_effect |= _may_have_arrived(to_datetime(subscription.canceled_at))
    sent = StripeWrite.objects.of(CANCEL, subscription.id)
    return sent.filter(had_effect, ~Q(params__has_key=_EXTERNAL)).exists()


# A cancellation stays pending until the unused time is credited. A failed one has an id
# if the subscription was cancelled, but its final invoice could not be finalized.
_HAD_EFFECT = Q(state=StripeWrite.State.PENDING) | ~Q(stripe_id="")


def _may_have_arrived(ended_at: datetime) -> Q:
    abandoned = Q(state=StripeWrite.State.ABANDONED)
    return abandoned & Q(resolved_at__gte=ended_at - writes.LATE_EFFECT_WINDOW)


def _latest(subscription_id: str) -> StripeWrite | None:
    return StripeWrite.objects.of(CANCEL, subscription_id).order_by("-pk").first()


def _credited(subscription_id: str) -> StripeWrite | None:
    sent = StripeWrite.objects.of(CANCEL, subscription_id)
    return sent.filter(params__has_key=_TERMS).order_by("-pk").first()


def _add_params(write_id: int, params: dict[str, Any]) -> None:
    """Add parameters for our own use, which are not sent."""
    locked = StripeWrite.objects.select_for_update().get(pk=write_id)
    StripeWrite.objects.filter(pk=write_id).update(params={**locked.params, **params})
