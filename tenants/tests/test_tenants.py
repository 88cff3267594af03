import pytest
from django.db import DatabaseError, IntegrityError, transaction

from caravel.core.exceptions import Invalid
from caravel.nostr import InvalidPubkey, npub
from tenants.models import Activity, Tenant
from tenants.services.tenants import get_or_create_tenant, update_tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def test_creating_a_tenant_twice_makes_one_and_logs_once():
    pubkey = TenantFactory.build().pubkey

    tenant, created = get_or_create_tenant(pubkey=npub(pubkey))
    again, created_again = get_or_create_tenant(pubkey=pubkey)

    assert (created, created_again) == (True, False)
    assert tenant == again
    assert Activity.objects.get().type == "create_tenant"


def test_a_malformed_key_makes_no_tenant():
    with pytest.raises(InvalidPubkey):
        get_or_create_tenant(pubkey="npub1nonsense")

    assert not Tenant.objects.exists()


def test_the_database_itself_refuses_a_key_that_is_not_hex():
    with pytest.raises(IntegrityError), transaction.atomic():
        Tenant.objects.create(pubkey="Z" * 64)


def test_an_update_changes_what_is_given_and_logs_it():
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
def test_bad_input_is_refused_with_a_code_and_changes_nothing(fields, code):
    tenant = TenantFactory(email="old@example.com")

    with pytest.raises(Invalid) as caught:
        update_tenant(pubkey=tenant.pk, **fields)

    assert caught.value.code == code
    tenant.refresh_from_db()
    assert tenant.email == "old@example.com"
    assert not Activity.objects.exists()


def test_a_switch_that_support_set_is_in_the_log():
    tenant = TenantFactory()

    update_tenant(pubkey=tenant.pk, dunning_exempt=True)

    tenant.refresh_from_db()
    assert tenant.dunning_exempt
    assert Activity.objects.get().snapshot == {"dunning_exempt": "True"}


@pytest.mark.parametrize("field", ["stripe_customer_id", "stripe_subscription_id"])
def test_a_stripe_id_belongs_to_one_tenant(field):
    TenantFactory(**{field: "x_1"})

    with pytest.raises(IntegrityError), transaction.atomic():
        TenantFactory(**{field: "x_1"})


def test_an_activity_can_be_neither_changed_nor_deleted():
    get_or_create_tenant(pubkey=TenantFactory.build().pubkey)
    activity = Activity.objects.get()

    with pytest.raises(TypeError):
        activity.save()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        Activity.objects.update(type="update_tenant")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        Activity.objects.all().delete()
