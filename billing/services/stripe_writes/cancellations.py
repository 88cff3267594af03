"""The rows that say that a subscription was ended, and how its end is settled."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from django.db.models import Q

from billing.clients.stripe.client import Line, Subscription
from billing.models import StripeWrite
from billing.services.stripe_writes import writes

CANCEL = StripeWrite.Kind.CANCEL_SUBSCRIPTION
#: In the parameters of an end that was not ours: there is nothing to be sent.
_EXTERNAL = "found"


def create_cancellation(
    *, tenant_id: str, subscription_id: str, owes: bool, pending: Sequence[Line]
) -> StripeWrite:
    """Record a cancellation that is about to be sent, and on which terms.

    Something owed: no credit for what was not paid; Stripe deletes the `pending`
    prorations, so what was served of them is kept here.
    """
    return writes.create_write(
        kind=CANCEL,
        subject=subscription_id,
        tenant_id=tenant_id,
        params=lambda key: {
            "prorate": not owes,
            "invoice_now": not owes,
            "deletes": [asdict(line) for line in pending],
        },
    )


def record_external_end(*, tenant_id: str, subscription_id: str) -> None:
    """Record, in the caller's transaction, an end that is to be settled by a sync.

    Nothing happens if it is the effect of a cancellation of ours, which settles it.
    """
    sent = StripeWrite.objects.of(CANCEL, subscription_id)
    if not sent.filter(_HAD_EFFECT).exists():
        writes.create_write(
            kind=CANCEL,
            subject=subscription_id,
            tenant_id=tenant_id,
            params=lambda key: {_EXTERNAL: True},
        )


def deleted_lines(intent: StripeWrite, ended_at: datetime) -> tuple[Line, ...]:
    """Return the prorations that Stripe deleted when the subscription ended then.

    Of an end that was found only those are known that a cancellation which we gave up
    would have deleted, if it may have arrived after all.
    """
    if ended_externally(intent):
        given_up = StripeWrite.objects.of(CANCEL, intent.subject).filter(
            _may_have_arrived(ended_at)
        )
        sent = given_up.order_by("-generation").first()
    else:
        sent = intent
    return (
        tuple(Line(**line) for line in sent.params.get("deletes", [])) if sent else ()
    )


def ended_externally(intent: StripeWrite) -> bool:
    """Return whether somebody else ended the subscription."""
    return _EXTERNAL in intent.params


def prorates(intent: StripeWrite) -> bool:
    """Return whether Stripe itself was asked to credit what was not served."""
    return bool(intent.params.get("prorate"))


def is_ours(subscription: Subscription) -> bool:
    """Return whether the end of a subscription is the effect of a cancel of ours.

    One that we gave up counts for as long as its request could still arrive.
    """
    ours = _HAD_EFFECT
    if subscription.canceled_at is not None:
        ours |= _may_have_arrived(datetime.fromtimestamp(subscription.canceled_at, UTC))
    sent = StripeWrite.objects.of(CANCEL, subscription.id)
    return sent.filter(ours, ~Q(params__has_key=_EXTERNAL)).exists()


_HAD_EFFECT = Q(state=StripeWrite.State.PENDING) | ~Q(stripe_id="")


def _may_have_arrived(ended_at: datetime) -> Q:
    abandoned = Q(state=StripeWrite.State.ABANDONED)
    return abandoned & Q(resolved_at__gte=ended_at - writes.LATE_EFFECT_WINDOW)
