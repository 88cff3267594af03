import pytest
from django.db import DatabaseError, IntegrityError, transaction

from caravel.core.exceptions import Invalid
from caravel.nostr import InvalidPubkey, npub
from tenants.models import Activity, Tenant
from tenants.services.tenants import get_or_create_tenant, update_tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def test_creating_tenant_twice_creates_and_logs_one():
    pubkey = TenantFactory.build().pubkey

    tenant, created = get_or_create_tenant(pubkey=npub(pubkey))
    again, created_again = get_or_create_tenant(pubkey=pubkey)

    assert (created, created_again) == (True, False)
    assert tenant == again
    assert Activity.objects.get().type == "create_tenant"


def test_malformed_key_creates_no_tenant():
    with pytest.raises(InvalidPubkey):
        get_or_create_tenant(pubkey="npub1nonsense")

    assert not Tenant.objects.exists()


def test_database_refuses_key_that_is_not_hex():
    with pytest.raises(IntegrityError), transaction.atomic():
        Tenant.objects.create(pubkey="Z" * 64)


def test_update_changes_only_given_fields_and_is_logged():
    tenant = TenantFactory(display_name="old", email="old@example.com")

    update_tenant(pubkey=tenant.pk, email="new@example.com")

    tenant.refresh_from_db()
    assert (tenant.display_name, tenant.email) == ("old", "new@example.com")
    assert Activity.objects.get().type == "update_tenant"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"email": "nobody@"}, "email-invalid"),
        ({"email": 5}, "email-invalid"),
        ({"email": "a@" + "b" * 250 + ".example"}, "email-invalid"),
        ({"display_name": "x" * 101}, "display-name-invalid"),
        ({"display_name": "a\0"}, "display-name-invalid"),
        ({"dunning_exempt": "yes"}, "dunning-exempt-invalid"),
        ({"nwc_url": "x"}, "field-unknown"),
    ],
)
def test_invalid_update_is_refused_and_changes_nothing(fields, code):
    tenant = TenantFactory(email="old@example.com")

    with pytest.raises(Invalid) as caught:
        update_tenant(pubkey=tenant.pk, **fields)

    assert caught.value.code == code
    tenant.refresh_from_db()
    assert tenant.email == "old@example.com"
    assert not Activity.objects.exists()


def test_value_of_switch_is_logged():
    tenant = TenantFactory()

    update_tenant(pubkey=tenant.pk, dunning_exempt=True)

    tenant.refresh_from_db()
    assert tenant.dunning_exempt
    assert Activity.objects.get().snapshot == {"dunning_exempt": "True"}


@pytest.mark.parametrize("field", ["stripe_customer_id", "stripe_subscription_id"])
def test_stripe_id_is_unique_among_tenants(field):
    TenantFactory(**{field: "x_1"})

    with pytest.raises(IntegrityError), transaction.atomic():
        TenantFactory(**{field: "x_1"})


def test_activity_cannot_be_changed_or_deleted():
    get_or_create_tenant(pubkey=TenantFactory.build().pubkey)
    activity = Activity.objects.get()

    with pytest.raises(TypeError):
        activity.save()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        Activity.objects.update(type="update_tenant")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        Activity.objects.all().delete()
