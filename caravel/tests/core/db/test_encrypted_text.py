import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connection

from caravel.core.db.encrypted_text import Secret, Undecryptable
from tenants.models import Tenant
from tenants.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db

URL = "nostr+walletconnect://abc?relay=wss://r.example&secret=0123456789abcdef"


def stored_value(tenant):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nwc_url FROM tenants_tenant WHERE pubkey = %s", [tenant.pk]
        )
        return cursor.fetchone()[0]


def test_secret_is_encrypted_in_database_and_can_be_read_back():
    tenant = TenantFactory(nwc_url=URL)

    assert "walletconnect" not in stored_value(tenant)
    assert Tenant.objects.get(pk=tenant.pk).nwc_url.reveal() == URL


def test_secret_is_not_printed():
    tenant = TenantFactory(nwc_url=URL)
    tenant.nwc_url = URL

    printed = f"{tenant.nwc_url} {tenant.nwc_url!r} {vars(tenant)}"

    assert "walletconnect" not in printed
    assert tenant.nwc_url.token not in printed


def test_blank_secret_is_false_and_stored_blank():
    tenant = TenantFactory()

    assert not tenant.nwc_url
    assert tenant.nwc_url.reveal() == ""
    assert stored_value(tenant) == ""


def test_old_key_can_be_removed_after_rotation(settings):
    tenant, empty = TenantFactory(nwc_url=URL), TenantFactory()
    old, new = settings.ENCRYPTION_KEYS[0], Fernet.generate_key().decode()
    settings.ENCRYPTION_KEYS = [new, old]

    call_command("rotate_encryption_keys")

    settings.ENCRYPTION_KEYS = [new]
    assert Tenant.objects.get(pk=tenant.pk).nwc_url.reveal() == URL
    assert stored_value(empty) == ""


def test_secret_is_readable_after_two_rotations(settings):
    tenant = TenantFactory(nwc_url=URL)

    call_command("rotate_encryption_keys")
    call_command("rotate_encryption_keys")

    assert Tenant.objects.get(pk=tenant.pk).nwc_url.reveal() == URL


def test_rotation_reports_and_keeps_undecryptable_secret(settings):
    lost = TenantFactory(nwc_url=URL)
    before = stored_value(lost)
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    readable = TenantFactory(nwc_url=URL)

    with pytest.raises(CommandError, match=lost.pk):
        call_command("rotate_encryption_keys")

    assert stored_value(lost) == before
    assert Tenant.objects.get(pk=readable.pk).nwc_url.reveal() == URL


def test_row_with_undecryptable_secret_can_be_read_and_saved(settings):
    lost = TenantFactory(nwc_url=URL)
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]

    tenant = Tenant.objects.get(pk=lost.pk)
    tenant.email = "a@b.example"
    tenant.save()

    with pytest.raises(Undecryptable):
        tenant.nwc_url.reveal()
    assert stored_value(lost) == lost.nwc_url.token


def test_assigned_secret_is_not_encrypted_again():
    secret = Secret.seal(URL)
    tenant = TenantFactory(nwc_url=secret)

    assert stored_value(tenant) == secret.token
