"""Names of tenants without one are taken from their profiles."""

import json
from unittest.mock import patch

import pytest

from tenants.models import Tenant
from tenants.services import names
from tenants.services.names import fill_in_name, profile_name, tenants_without_name
from tenants.services.tenants import get_or_create_tenant, update_tenant
from tenants.tasks import fill_in_name as task
from tenants.tasks import look_up_names
from tenants.tests.factories import TenantFactory
from tenants.tests.support.nostr_users import NostrUser

pytestmark = pytest.mark.django_db


@pytest.fixture
def bob(indexer, outbox):
    return NostrUser()


def publish_profile(user, relay, **profile):
    user.publish(relay, 0, content=json.dumps(profile))


def test_name_is_found_at_indexer(bob, indexer):
    bob.tenant()
    publish_profile(bob, indexer, name="bob", display_name="Bob ₿")

    assert fill_in_name(tenant_id=bob.pubkey) == "Bob ₿"
    assert Tenant.objects.get().display_name == "Bob ₿"


def test_name_is_found_at_tenants_write_relay(bob, indexer, inbox):
    bob.tenant()
    bob.writes_to(inbox, announced_at=indexer)
    publish_profile(bob, inbox, name="bob")

    assert fill_in_name(tenant_id=bob.pubkey) == "bob"


def test_existing_name_is_not_changed_or_looked_up(bob, indexer):
    bob.tenant(display_name="Given by support")
    publish_profile(bob, indexer, name="bob")
    requests = indexer.requests

    assert fill_in_name(tenant_id=bob.pubkey) == "Given by support"
    assert indexer.requests == requests


def test_name_set_during_lookup_is_not_overwritten(bob, indexer):
    bob.tenant()
    publish_profile(bob, indexer, name="bob")

    def set_name_and_parse(content):
        update_tenant(pubkey=bob.pubkey, display_name="Robert")
        return profile_name(content)

    with patch("tenants.services.names.profile_name", side_effect=set_name_and_parse):
        assert fill_in_name(tenant_id=bob.pubkey) == "Robert"
    assert Tenant.objects.get().display_name == "Robert"


def test_name_stays_blank_without_profile_or_indexer(bob, indexer):
    bob.tenant()

    assert fill_in_name(tenant_id=bob.pubkey) == ""
    indexer.go_offline()
    assert fill_in_name(tenant_id=bob.pubkey) == ""


def test_name_is_looked_up_for_new_tenant_and_daily_while_blank(
    django_capture_on_commit_callbacks,
):
    pubkey = TenantFactory.build().pubkey
    with (
        patch.object(task, "apply_async") as enqueue,
        django_capture_on_commit_callbacks(execute=True),
    ):
        get_or_create_tenant(pubkey=pubkey)
        get_or_create_tenant(pubkey=pubkey)
        TenantFactory(display_name="Named")
    enqueue.assert_called_once_with((pubkey,), {})

    assert tenants_without_name() == [pubkey]
    with patch.object(task, "delay_many") as delay_many:
        look_up_names()
    delay_many.assert_called_once_with([pubkey])


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ('{"name": "bob"}', "bob"),
        ('{"name": "bob", "display_name": "Bob"}', "Bob"),
        ('{"name": "bob", "display_name": " \\n"}', "bob"),
        ('{"name": "bob", "display_name": 5}', "bob"),
        ('{"name": "two\\nlines\\u0000\\u202e"}', "two lines"),
        (json.dumps({"name": "x" * 300}), "x" * 100),
        ('{"name": "\\ud800 lone"}', "lone"),
        ('{"name": "b\\u200bo\\tb"}', "bo b"),
        ('{"name": ["bob"]}', ""),
        ('["name"]', ""),
        ("not JSON", ""),
        ("[" * 100_000, ""),
        ("", ""),
    ],
)
def test_profile_name_is_one_printable_line(profile, name):
    assert profile_name(profile) == name


def test_lookups_begin_anywhere_and_reach_every_tenant_without_a_name(monkeypatch):
    keys = sorted(TenantFactory(display_name="").pk for _ in range(4))
    monkeypatch.setattr("secrets.token_hex", lambda size: keys[2])

    assert tenants_without_name() == [keys[2], keys[3], keys[0], keys[1]]
    monkeypatch.setattr(names, "MAX_LOOKUPS", 3)
    assert tenants_without_name() == [keys[2], keys[3], keys[0]]
