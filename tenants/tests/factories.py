import factory

from caravel.nostr import generate_secret_key, pubkey_of
from tenants.models import Tenant


class TenantFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Tenant

    pubkey = factory.LazyFunction(lambda: pubkey_of(generate_secret_key()))
