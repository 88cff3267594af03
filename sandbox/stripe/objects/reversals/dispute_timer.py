"""Timers of a dispute: a decision, the end of its term, the end of a subscription.

Source: docs page "Cancel subscriptions", automatic cancellation after a dispute.
"""

from collections.abc import Callable, Iterator

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import Timer
from sandbox.stripe.clock.periods import DAY
from sandbox.stripe.objects.invoices.collection import UPDATED
from sandbox.stripe.objects.reversals import disputes
from sandbox.stripe.objects.schemas.invoice import subscription_of
from sandbox.stripe.objects.schemas.subscription import ENDED
from sandbox.stripe.objects.subscriptions import cancel, scheduled_cancellation
from sandbox.stripe.store.records import Record

Action = Callable[[Context, Record], None]
REASON = "payment_disputed"


def _decide(context: Context, dispute: Record) -> None:
    if dispute["_decision"] == "escalated":
        disputes.escalate(context, dispute["id"])
    else:
        disputes.close(context, dispute["id"], dispute["_decision"])


def _lose(context: Context, dispute: Record) -> None:
    """Close a dispute without a response, which is lost (docs page "Respond")."""
    disputes.close(context, dispute["id"], "lost")


def _expire(context: Context, dispute: Record) -> None:
    disputes.close(context, dispute["id"], "warning_closed")


def _cancel_subscription(context: Context, dispute: Record) -> None:
    context.change(disputes.KIND, dispute["id"], _cancels_at=None)
    intent = context.get("payment_intent", dispute["payment_intent"])
    id = subscription_of(context.get("invoice", intent["_invoice"]))
    subscription = context.store.get("subscription", id) if id else None
    if id is None or subscription is None or subscription["status"] in ENDED:
        return
    outcome = context.settings.after_dispute
    # Assumed for a paused one: its period is already over.
    is_over = outcome == "cancel_at_period_end" and subscription["status"] == "paused"
    if outcome == "cancel" or is_over:
        cancel.cancel(context, id, reason=REASON)
    elif outcome == "cancel_at_period_end":
        with context.update("subscription", id, UPDATED) as draft:
            params = {"cancel_at_period_end": True}
            scheduled_cancellation.schedule(context, draft, params)
            draft["cancellation_details"]["reason"] = REASON


def _timers(dispute: Record) -> Iterator[tuple[int | None, Action]]:
    """Yield due times, or None, with their actions; each clears its own time."""
    yield dispute["_cancels_at"], _cancel_subscription
    yield dispute["_decides_at"], _decide
    if dispute["status"] == "needs_response":
        # Never in the past: the term can have ended before an escalation.
        yield dispute["evidence_details"]["due_by"], _lose
    if dispute["status"] in ("warning_needs_response", "warning_under_review"):
        yield dispute["created"] + disputes.INQUIRY_DAYS * DAY, _expire


def _next(dispute: Record) -> tuple[int, Action] | None:
    timers = [(at, run) for at, run in _timers(dispute) if at is not None]
    return min(timers, key=lambda timer: timer[0], default=None)


def _due_at(dispute: Record) -> int | None:
    timer = _next(dispute)
    return timer and timer[0]


def _run(context: Context, dispute: Record) -> None:
    if timer := _next(dispute):
        timer[1](context, dispute)


TIMER = Timer(_due_at, _run)
