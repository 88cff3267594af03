import factory

from relays.models import Plan, Relay
from tenants.tests.factories import TenantFactory


class RelayFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Relay

    tenant = factory.SubFactory(TenantFactory)
    subdomain = factory.Sequence(lambda n: f"relay-{n}")
    plan = factory.LazyFunction(lambda: Plan.objects.get(pk="basic"))
