"""The admin's page of a relay: its roles, and changes to a smaller plan."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

from billing.tests.support.admin import admin_url, message_texts
from caravel.nostr import npub, pubkey_of
from relays.models import Relay
from relays.tests.factories import RelayFactory
from relays.tests.support.members import served_relay

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

    response = save(admin_client, relay, admins="npub1x", name="New")

    errors = response.context["adminform"].form.errors
    assert errors == {"admins": ["This npub is misspelt."]}
    relay.refresh_from_db()
    assert (relay.admins, relay.name) == ([ANN], "")


def test_owner_as_moderator_is_refused_with_a_message(admin_client):
    relay = RelayFactory()

    response = save(admin_client, relay, moderators=relay.tenant_id)

    assert "role-invalid" in message_texts(response)[0]
    relay.refresh_from_db()
    assert relay.moderators == []


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
