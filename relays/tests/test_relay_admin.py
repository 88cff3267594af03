"""The admin's page of a relay: its roles, and changes to a smaller plan."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.utils import timezone

from billing.tests.support.admin import admin_url, message_texts
from caravel.nostr import npub, pubkey_of
from relays.models import Relay, RelayExport, RelaySync
from relays.tests.factories import RelayFactory
from relays.tests.support.members import served_relay
from tenants.models import Activity

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("priced_plans")]

ANN, BEN = (pubkey_of(digit * 64) for digit in "12")


def save(client: Any, relay: Relay, **fields: str) -> Any:
    """Submit the page of a relay with some fields changed."""
    url = admin_url(Relay, "change", relay.pk)
    form = client.get(url).context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    data = {name: value for name, value in values.items() if value is not False}
    return client.post(url, {**data, **fields}, follow=True)


def test_keys_are_entered_as_npub_or_hex_and_shown_in_hex(admin_client):
    relay = RelayFactory()

    save(admin_client, relay, admins=f"{npub(ANN)},\n {BEN}\n")

    relay.refresh_from_db()
    assert relay.admins == [ANN, BEN]
    page = admin_client.get(admin_url(Relay, "change", relay.pk))
    assert f"{ANN}\n{BEN}</textarea>" in page.content.decode()


def test_page_saved_as_it_is_changes_no_role(admin_client):
    relay = RelayFactory(admins=[ANN], moderators=[BEN])
    Relay.objects.update(synced=True)

    save(admin_client, relay)

    relay.refresh_from_db()
    assert (relay.admins, relay.moderators) == ([ANN], [BEN])
    assert relay.synced


def test_role_is_taken_away(admin_client):
    relay = RelayFactory(admins=[ANN])

    save(admin_client, relay, admins="")

    relay.refresh_from_db()
    assert relay.admins == []


def test_invalid_key_is_an_error_of_its_field(admin_client):
    relay = RelayFactory(admins=[ANN])

    response = save(admin_client, relay, admins=f"{BEN} npub1x", name="New")

    errors = response.context["adminform"].form.errors
    assert errors == {"admins": ["Key 2 of the list: This npub is misspelt."]}
    relay.refresh_from_db()
    assert (relay.admins, relay.name) == ([ANN], "")


@pytest.mark.parametrize("role", ["admins", "moderators"])
def test_owner_with_a_role_is_an_error_of_its_field_and_nothing_is_lost(
    admin_client, role
):
    relay = RelayFactory()

    response = save(admin_client, relay, **{role: relay.tenant_id, "name": "New"})

    form = response.context["adminform"].form
    assert [*form.errors] == [role] and form["name"].value() == "New"
    relay.refresh_from_db()
    assert getattr(relay, role) == []


def test_taken_subdomain_is_an_error_of_its_field(admin_client):
    relay = RelayFactory()
    RelayFactory(subdomain="birds")
    RelayFactory(subdomain="fish", status="inactive", deleted_at=timezone.now())

    response = save(admin_client, relay, subdomain="Birds", name="New")

    form = response.context["adminform"].form
    assert form.errors == {"subdomain": ["This subdomain is taken."]}
    save(admin_client, relay, subdomain="fish")
    relay.refresh_from_db()
    assert relay.subdomain == "fish"


# --- what support sees of a relay


def listed(admin_client, **query):
    return admin_client.get(admin_url(Relay, "changelist"), query).content.decode()


def page_of(admin_client, relay):
    url = admin_url(Relay, "change", relay.pk)
    return admin_client.get(url).content.decode()


def test_page_begins_with_the_address_and_what_was_last_seen(admin_client):
    now = timezone.now()
    relay = RelayFactory(
        subdomain="birds", served_at=now, dark_at=now - timedelta(days=1)
    )

    page = page_of(admin_client, relay)

    assert f"://birds.{settings.RELAY_DOMAIN}</a>" in page
    assert "running " in page and "running " in listed(admin_client)
    assert page.index("running ") < page.index('name="description"')
    for model in (Activity, RelayExport):
        link = re.search(rf'href="({admin_url(model, "changelist")}\?[^"]+)"', page)
        assert link and admin_client.get(link[1]).status_code == 200


def test_relay_that_the_last_look_did_not_reach_is_told_and_listed(admin_client):
    reached, unreached = RelayFactory(subdomain="near"), RelayFactory(subdomain="far")
    sync = RelaySync.objects.filter(relay=unreached)
    sync.update(probe_failures=3)

    assert "not reached by the last 3 looks; before that: never" in page_of(
        admin_client, unreached
    )
    page = listed(admin_client, attention="unreached")
    assert "far" in page and reached.subdomain not in page


def test_deleted_relay_is_called_deleted_and_cannot_be_edited(admin_client):
    relay = RelayFactory(status="inactive", deleted_at=timezone.now())

    assert "deleted" in listed(admin_client)
    assert "switched off manually" not in page_of(admin_client, relay)
    assert 'name="_save"' not in page_of(admin_client, relay)


# --- a smaller plan


@pytest.mark.parametrize("status", Relay.Status.values)
def test_plan_that_is_too_small_is_refused_with_both_numbers(
    admin_client, zooid, status
):
    relay = served_relay(zooid, 11, status=status)

    response = save(admin_client, relay, plan="free", name="New")

    message = message_texts(response)[0]
    assert "11 members" in message and "at most 10" in message
    relay.refresh_from_db()
    assert (relay.plan_id, relay.name, relay.status) == ("basic", "", status)


def test_plan_that_is_large_enough_is_chosen(admin_client, zooid):
    relay = served_relay(zooid, 10)

    save(admin_client, relay, plan="free")

    relay.refresh_from_db()
    assert (relay.plan_id, relay.people) == ("free", 10)


def test_smaller_plan_is_refused_while_zooid_is_away(admin_client, zooid):
    relay = served_relay(zooid, 1)
    zooid.fault("error")

    response = save(admin_client, relay, plan="free", name="New")

    assert "zooid-unavailable" in message_texts(response)[0]
    relay.refresh_from_db()
    assert (relay.plan_id, relay.name) == ("basic", "")


def test_other_changes_need_no_answer_of_zooid(admin_client, zooid):
    relay = served_relay(zooid, 11)

    save(admin_client, relay, name="New")
    save(admin_client, relay, plan="growth")

    relay.refresh_from_db()
    assert (relay.plan_id, relay.name) == ("growth", "New")
    assert zooid.requests == []


def test_staff_who_may_only_look_do_not_make_us_count(client, zooid):
    viewer = get_user_model().objects.create_user("viewer", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_relay"))
    relay = served_relay(zooid, 1)
    client.force_login(viewer)

    response = client.post(admin_url(Relay, "change", relay.pk), {"plan": "free"})

    assert response.status_code == 403
    assert zooid.requests == []


@pytest.mark.parametrize("object_id", ["x", "00000000-0000-0000-0000-000000000000"])
def test_page_of_an_unknown_relay_goes_back_to_the_list(admin_client, zooid, object_id):
    response = admin_client.post(admin_url(Relay, "change", object_id), {"plan": "x"})

    assert response.status_code == 302
    assert zooid.requests == []
