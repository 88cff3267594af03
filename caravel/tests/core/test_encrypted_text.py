import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from caravel.core.db.encrypted_text import Secret, Undecryptable
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

URL = "nostr+walletconnect://abc?relay=wss://r.example&secret=0123456789abcdef"


def stored(tenant):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nwc_url FROM tenants_tenant WHERE pubkey = %s", [tenant.pk]
        )
        return cursor.fetchone()[0]


def test_a_secret_is_encrypted_at_rest_and_read_back():
    tenant = TenantFactory(nwc_url=URL)

    assert "walletconnect" not in stored(tenant)
    assert Tenant.objects.get(pk=tenant.pk).nwc_url.reveal() == URL


def test_a_secret_never_shows_itself():
    tenant = TenantFactory(nwc_url=URL)
    tenant.nwc_url = URL

    shown = f"{tenant.nwc_url} {tenant.nwc_url!r} {vars(tenant)}"

    assert "walletconnect" not in shown
    assert tenant.nwc_url.token not in shown


def test_a_blank_secret_is_false_and_stored_blank():
    tenant = TenantFactory()

    assert not tenant.nwc_url
    assert tenant.nwc_url.reveal() == ""
    assert stored(tenant) == ""


def test_rotation_makes_the_old_key_unnecessary(settings):
    tenant, empty = TenantFactory(nwc_url=URL), TenantFactory()
    old, new = settings.ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [new, old]

    call_command("rotate_encryption_keys")

    settings.ENCRYPTION_KEYS = [new]
    assert Tenant.objects.get(pk=tenant.pk).nwc_url.reveal() == URL
    assert stored(empty) == ""


def test_rotating_twice_changes_nothing_readable(settings):
    tenant = TenantFactory(nwc_url=URL)

    call_command("rotate_encryption_keys")
    call_command("rotate_encryption_keys")

    assert Tenant.objects.get(pk=tenant.pk).nwc_url.reveal() == URL


def test_rotation_names_what_no_key_opens_and_keeps_it(settings):
    lost = TenantFactory(nwc_url=URL)
    before = stored(lost)
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    kept = TenantFactory(nwc_url=URL)

    with pytest.raises(CommandError, match=lost.pk):
        call_command("rotate_encryption_keys")

    assert stored(lost) == before
    assert Tenant.objects.get(pk=kept.pk).nwc_url.reveal() == URL


def test_a_row_with_a_lost_key_can_still_be_read_and_saved(settings):
    lost = TenantFactory(nwc_url=URL)
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]

    tenant = Tenant.objects.get(pk=lost.pk)
    tenant.email = "a@b.example"
    tenant.save()

    with pytest.raises(Undecryptable):
        tenant.nwc_url.reveal()
    assert stored(lost) == lost.nwc_url.token


def test_an_already_sealed_secret_is_not_sealed_again():
    secret = Secret.seal(URL)
    tenant = TenantFactory(nwc_url=secret)

    assert stored(tenant) == secret.token
