import json

import factory
from django.utils import timezone

from billing.models import StripeEvent


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
