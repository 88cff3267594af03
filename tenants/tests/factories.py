import factory

from caravel.nostr import generate_secret_key, pubkey_of
from tenants.models import Tenant
from tenants.services.email_links import confirmation_url
from tenants.services.tenants import confirm_email


class TenantFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Tenant

    pubkey = factory.LazyFunction(lambda: pubkey_of(generate_secret_key()))


def confirm_address(tenant: Tenant) -> None:
    """Follow the link to a tenant's address, as its owner does."""
    tenant.refresh_from_db()
    confirm_email(token=confirmation_url(tenant).rsplit("/", 1)[1])
    tenant.refresh_from_db()
