import json
from datetime import timedelta

import factory
from django.utils import timezone

from billing.models import InvoiceCollection, StripeEvent
from tenants.tests.factories import TenantFactory


class StripeEventFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = StripeEvent

    class Params:
        object = factory.LazyFunction(dict)
        previous = None

    id = factory.Sequence(lambda n: f"evt_{n}")
    type = "customer.subscription.updated"
    livemode = False
    created_at = factory.LazyFunction(timezone.now)

    @factory.lazy_attribute
    def body(self):
        data = {"object": self.object}
        if self.previous is not None:
            data["previous_attributes"] = self.previous
        return json.dumps({"id": self.id, "type": self.type, "data": data})


class InvoiceCollectionFactory(factory.django.DjangoModelFactory):
    """An invoice that was just finalized, without any payment attempt."""

    class Meta:
        model = InvoiceCollection

    stripe_invoice_id = factory.Sequence(lambda n: f"in_{n}")
    tenant = factory.SubFactory(TenantFactory)
    stripe_customer_id = "cus_1"
    stripe_subscription_id = "sub_1"
    number = factory.Sequence(lambda n: f"CARAVEL-{n:04}")
    currency = "usd"
    stripe_status = "open"
    state = "collecting"
    total_cents = 500
    amount_due_cents = 500
    amount_remaining_cents = 500
    created_at = factory.LazyFunction(timezone.now)
    finalized_at = factory.SelfAttribute("created_at")
    suspend_at = factory.LazyAttribute(lambda row: row.finalized_at + timedelta(days=7))
    closed_at = factory.LazyAttribute(
        lambda row: timezone.now() if row.state == "closed" else None
    )
