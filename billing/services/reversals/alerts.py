"""Alerts to support about refunds, disputes and early fraud warnings."""

import structlog

from billing.models import Reversal
from billing.money import format_amount
from caravel.core.alerts import alert_support

logger = structlog.get_logger(__name__)

Kind, State = Reversal.Kind, Reversal.State
#: Alerts by kind: the event, and the states that somebody should look at.
_ALERTS = {
    Kind.REFUND: ("refund_failed", frozenset({State.FAILED})),
    Kind.DISPUTE: (
        "payment_disputed",
        frozenset({*Reversal.RESPONSE_STATES, State.LOST}),
    ),
    Kind.FRAUD_WARNING: ("fraud_warning", frozenset({State.OPEN})),
}


def alert_if_needed(row: Reversal, before: Reversal | None) -> None:
    """Alert support if a reversal needs a person now; log it otherwise."""
    event, states = _ALERTS[Kind(row.kind)]
    is_news = before is None or before.state != row.state
    if is_news and row.state in states:
        alert_support(
            event,
            _message(row),
            tenant=row.tenant_id,
            stripe_invoice=row.collection_id,
            reversal=row.pk,
            state=row.state,
        )
    else:
        logger.info("reversal_recorded", reversal=row.pk, state=row.state)


def _message(row: Reversal) -> str:
    amount = format_amount(row.amount_cents, row.currency)
    text = f"{row.get_kind_display()} of {amount}, {row.get_state_display()}"
    if row.reason:
        text += f", reason: {row.reason}"
    if row.evidence_due_at and row.state in Reversal.RESPONSE_STATES:
        text += f". Evidence is due by {row.evidence_due_at:%-d %B %Y, %H:%M} UTC"
    return f"{text}."
