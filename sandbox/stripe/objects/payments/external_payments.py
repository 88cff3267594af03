"""Payment records: payments that Stripe did not process (SDK type PaymentRecord).

Here they only arise from invoices paid out of band.
"""

from typing import Any

from sandbox.stripe.api.context import Context
from sandbox.stripe.api.routing import Resource
from sandbox.stripe.objects.fields import nulls
from sandbox.stripe.store.records import Record

KIND = "payment_record"
AMOUNTS = "authorized canceled failed guaranteed refunded requested"
PAID = ("amount", "amount_guaranteed", "amount_requested")
NULL_FIELDS = nulls(
    "application customer_presence description latest_payment_attempt_record "
    "payment_method_details shipping_details"
)
resource = Resource(KIND)
resource.retrievable("/v1/payment_records")


def create(context: Context, invoice: Record, amount: int) -> Record:
    """Store the record of a payment out of band."""
    names = ("amount", *(f"amount_{name}" for name in AMOUNTS.split()))
    amounts: dict[str, Any] = {
        name: {
            "currency": invoice["currency"],
            "value": amount if name in PAID else 0,
        }
        for name in names
    }
    return context.insert(
        {
            **NULL_FIELDS,
            **context.new(KIND, "pr"),
            **amounts,
            "customer_details": {
                "customer": invoice["customer"],
                **nulls("email name phone"),
            },
            "metadata": {},
            "processor_details": {
                "custom": {"payment_reference": None},
                "type": "custom",
            },
            "reported_by": "self",
        }
    )
