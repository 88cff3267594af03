from billing.models.account import StripeAccount
from billing.models.collections import InvoiceCollection
from billing.models.credits import Credit
from billing.models.cursors import StripeCursor
from billing.models.events import StripeEvent
from billing.models.payments import CardAttempt, Settlement
from billing.models.reconciliation import (
    ReconciliationRun,
    ReconciliationWindow,
    StagedSubscription,
)
from billing.models.reversals import Reversal
from billing.models.subscriptions import StripeWrite, SubscriptionSync

__all__ = [
    "CardAttempt",
    "Credit",
    "InvoiceCollection",
    "ReconciliationRun",
    "ReconciliationWindow",
    "Reversal",
    "Settlement",
    "StagedSubscription",
    "StripeAccount",
    "StripeCursor",
    "StripeEvent",
    "StripeWrite",
    "SubscriptionSync",
]
