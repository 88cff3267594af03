"""Balance transactions of a dispute: money withdrawn, and reinstated.

Source: SDK types Dispute.balance_transactions and BalanceTransaction. The fee is that
of an account in the US; assumed: a win does not return it.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.store.records import Record

FEE = 1_500


def movement(context: Context, dispute: Record, amount: int) -> dict[str, Any]:
    """Return the transaction that takes (negative) or returns the disputed amount."""
    fee = FEE if amount < 0 else 0
    currency, name = dispute["currency"], "withdrawal" if fee else "reversal"
    detail = {
        "amount": fee,
        "application": None,
        "currency": currency,
        "description": "Dispute fee",
        "type": "stripe_fee",
    }
    base = context.new("balance_transaction", "txn")
    del base["livemode"]
    return {
        **base,
        "amount": amount,
        "available_on": context.now,
        "balance_type": "payments",
        "currency": currency,
        "description": f"Chargeback {name} for {dispute['charge']}",
        "exchange_rate": None,
        "fee": fee,
        "fee_details": [detail] if fee else [],
        "net": amount - fee,
        "reporting_category": "dispute" if fee else "dispute_reversal",
        "source": dispute["id"],
        "status": "available",
        "type": "adjustment",
    }
