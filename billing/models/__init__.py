from billing.models.account import StripeAccount
from billing.models.collections import InvoiceCollection
from billing.models.credits import Credit
from billing.models.cursors import StripeCursor
from billing.models.events import StripeEvent
from billing.models.payments import CardAttempt, Settlement
from billing.models.reversals import Reversal
from billing.models.subscriptions import StripeWrite, SubscriptionSync

__all__ = [
    "CardAttempt",
    "Credit",
    "InvoiceCollection",
    "Reversal",
    "Settlement",
    "StripeAccount",
    "StripeCursor",
    "StripeEvent",
    "StripeWrite",
    "SubscriptionSync",
]
